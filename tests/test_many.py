"""Runs in several processes: a launcher, a rank or a worker that is killed, a search that is stopped. Most of it needs
minutes, Ray and Optuna, so it runs in `make stress` only."""
import contextlib, os, re, subprocess, sys, time
import pytest, torch
from fastai.vision.all import Callback, Path
from cifar_hrf.core import InputError
from cifar_hrf.many import resume_many, search_recipe, train_many
from cifar_hrf.recipe import get_recipe
from cifar_hrf.results import read_runs
from cifar_hrf.runs import load_run
from cifar_hrf.train import train

stress = pytest.mark.skipif('STRESS' not in os.environ, reason='needs minutes: make stress')
small = '--data digits --set width=4'.split()
quick = get_recipe('digits').replace(epochs=1, width=2)

def start(*args, processes=1, options=small):
    "Start `hrf_train` in a terminal's way"
    program = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', str(processes)] if processes>1 else [sys.executable]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.Popen([*program, '-m', 'cifar_hrf.cli', 'train', *options, *map(str, args)], env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

def until(f, seconds=120):
    end = time.time()+seconds
    while time.time()<end:
        if found := f(): return found
        time.sleep(.05)
    raise TimeoutError

def children(pid, pattern=''):
    "Processes below `pid` whose command line matches"
    import psutil
    found = []
    for o in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if re.search(pattern, ' '.join([o.name(), *o.cmdline()])): found.append(o)
    return found

def same(a, b):
    a,b = load_run(a),load_run(b)
    weights = b.model.state_dict()
    return all(torch.equal(v, weights[k]) for k,v in a.model.state_dict().items()) and a.summary['accuracy']==b.summary['accuracy'] \
        and a.history.drop(columns='seconds').equals(b.history.drop(columns='seconds'))

def test_a_value_given_twice_is_trained_once(tmp_path):
    "Digits are never mirrored, so the two values of `flip` mean the same"
    assert len(train_many(quick, 'digits', 1, tmp_path, vary=dict(flip=[0.,.5], lr_max=[.1,.1])))==1

def test_a_grid_is_checked_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match='cutout=40'): train_many(quick, 'digits', 1, tmp_path/'runs', vary=dict(cutout=[0,40]))
    assert not (tmp_path/'runs').exists()

class StopsSecond(Callback):
    order = 99
    def after_fit(self): self.runs = getattr(self, 'runs', 0)+1
    def before_epoch(self):
        if getattr(self, 'runs', 0)==1: raise KeyboardInterrupt

@stress
def test_a_stopped_study_names_its_folder_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = train_many(quick, 'digits', 2, 'whole')
    with pytest.raises(KeyboardInterrupt, match='go on with: hrf_train --resume stopped$'):
        train_many(quick, 'digits', 2, 'stopped', cbs=StopsSecond())
    assert read_runs('stopped').status.to_list()==['complete','stopped']
    resume_many('stopped')
    assert all(same(a, b) for a,b in zip(whole, sorted(Path('stopped').iterdir())))

@stress
def test_two_searches_at_once_in_a_folder(tmp_path):
    from cifar_hrf.runs import locked_run
    search_recipe(quick, 'digits', 1, dict(width=[2]), tmp_path)
    with locked_run(tmp_path), pytest.raises(InputError, match='another process'):
        search_recipe(quick, 'digits', 2, dict(width=[2]), tmp_path)

def test_missing_libraries_are_named(tmp_path, monkeypatch):
    for k in 'ray','optuna': monkeypatch.setitem(sys.modules, k, None)
    with pytest.raises(InputError, match=r'needs ray: pip install cifar_hrf\[ray\]'):
        train_many(quick, 'digits', 1, tmp_path/'runs', engine='ray')
    with pytest.raises(InputError, match=r'needs optuna: pip install cifar_hrf\[search\]'):
        search_recipe(quick, 'digits', 1, dict(width=[2]), tmp_path/'search')
    assert not (tmp_path/'runs').exists() and not (tmp_path/'search').exists()

@stress
def test_torchrun(tmp_path):
    p = start('norm=sync', '--epochs', 2, '--out', tmp_path/'two', processes=2)
    out,err = p.communicate(timeout=300)
    assert p.returncode==0 and out.count('accuracy ')==1 and out.count('recipe: ')==1, err
    assert [o.summary['status'] for o in map(load_run, (tmp_path/'two').iterdir())]==['complete']

@stress
@pytest.mark.parametrize('rank', [0,1])
def test_a_rank_is_killed(rank, tmp_path):
    p = start('norm=sync', '--epochs', 20, '--out', tmp_path, processes=2)
    until(lambda: [*tmp_path.glob('*/checkpoint.pt')])
    ranks = children(p.pid, 'cifar_hrf')
    ranks = sorted((o for o in ranks if 'LOCAL_RANK' in o.environ()), key=lambda o: o.environ()['LOCAL_RANK'])
    ranks[rank].kill()
    out,err = p.communicate(timeout=300)
    run, = tmp_path.iterdir()
    assert p.returncode and (run/'checkpoint.pt').exists()
    if rank==1: assert f'another process ended; go on with: torchrun --nproc-per-node 2 -m cifar_hrf.cli train --resume {run}' in err
    assert load_run(run).summary['status']==('stopped' if rank==1 else 'unfinished')
    p = start('--resume', run, processes=2, options=())
    out,err = p.communicate(timeout=300)
    assert p.returncode==0 and load_run(run).summary['status']=='complete', err

@stress
def test_a_worker_is_killed(tmp_path):
    p = start('--seeds', 12, '--engine', 'ray', '--out', tmp_path/'ray')
    def well_on(): return [o.parent for o in (tmp_path/'ray').glob('*/checkpoint.pt') if len(load_run(o.parent).history)>2]
    victim = until(well_on)[0]
    seed = load_run(victim).env['seed']
    # each worker of Ray holds the lock of its run's folder
    workers = [o for o in children(p.pid, 'ray::_work') if any(str(victim)==os.readlink(f'/proc/{o.pid}/fd/{fd}')
               for fd in os.listdir(f'/proc/{o.pid}/fd') if os.path.exists(f'/proc/{o.pid}/fd/{fd}'))]
    assert workers
    for o in workers: o.kill()
    out,err = p.communicate(timeout=900)
    assert p.returncode==0, out+err
    runs = read_runs(tmp_path/'ray')
    assert runs.status.to_list()==['complete']*12 and sorted(runs.seed)==[*range(12)]
    torch.set_num_threads(1)
    alone = train('digits', 'digits', seed, tmp_path/'alone', width=4)
    assert same(victim, alone)

@stress
def test_a_search_is_killed(tmp_path):
    args = '--search','6','--grid','lr_max=.02:.2','--epochs','3','--out',tmp_path/'search'
    p = start(*args)
    until(lambda: len([*(tmp_path/'search').glob('*/*/summary.json')])==3)
    p.kill(); p.communicate()
    out,err = start(*args).communicate(timeout=600)
    assert 'best of 6' in out, err
    runs = read_runs(tmp_path/'search')
    assert runs.status.to_list()==['complete']*6 and runs.evaluated_on.eq('held out of train').all()
    assert get_recipe(str(tmp_path/'search/best.json')).lr_max in runs.lr_max.astype(float).to_list()

@stress
def test_no_cluster_at_the_address(tmp_path):
    out,err = start('--engine', 'ray', '--address', '127.0.0.1:1', '--out', tmp_path/'runs').communicate(timeout=300)
    assert err.count('\n')==1 and '--address 127.0.0.1:1: no Ray cluster answers' in err
