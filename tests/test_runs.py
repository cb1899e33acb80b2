"What a page should not do to a run: fill the disk, start two at once, stop it at odd moments, hide the compiler."
import contextlib, io, multiprocessing, os, shutil, signal, sys
import pytest, torch
from fastai.vision.all import Callback, Path, fastai_cfg
from safetensors.torch import load_file
from cifar_hrf.callbacks import History
from cifar_hrf.cli import hrf_train
from cifar_hrf.core import InputError
from cifar_hrf.recipe import get_recipe
from cifar_hrf.runs import load_run, write_setting, write_summary
from cifar_hrf.train import Checkpoint, resume_run, train

quick = get_recipe('digits').replace(epochs=2, width=2)

def same(a, b):
    "True if two runs have the same weights and history, bit for bit"
    x,y = [load_file(o/'model.safetensors') for o in (a,b)]
    history = [load_run(o).history.drop(columns='seconds') for o in (a,b)]
    return x.keys()==y.keys() and all(torch.equal(v, y[k]) for k,v in x.items()) and history[0].equals(history[1])

def run_command(log, out, home, largest):
    "`hrf_train` in a home of its own, or on a disk that takes no file of more than `largest` bytes"
    if home:
        os.environ['FASTAI_HOME'] = str(home)
        fastai_cfg.cache_clear() # the parent process may have read it
    if largest:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest,)*2)
    with open(log, 'w') as f, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(f):
        hrf_train(f'--recipe digits --data digits --epochs 2 --seed 1 --out {out} --set width=4'.split())

@pytest.mark.skipif(sys.platform!='linux', reason='forks, and limits the size of files')
def test_two_at_once_and_a_full_disk(tmp_path):
    "Two first starts make the digits and their cache at once; a third meets a full disk, and resumes when there is room"
    both,full,home = tmp_path/'both',tmp_path/'full',tmp_path/'home'
    runs = [(tmp_path/'0',both,home,None), (tmp_path/'1',both,home,None), (tmp_path/'2',full,None,50_000)]
    processes = [multiprocessing.get_context('fork').Process(target=run_command, args=o) for o in runs]
    for p in processes: p.start()
    for p in processes: p.join()
    errors = [o[0].read_text() for o in runs]
    assert [p.exitcode for p in processes]==[0,0,2] and errors[:2]==['','']
    a,b = both.iterdir()
    assert same(a, b)
    assert [len([*(home/'data/sklearn_digits'/o).rglob('*.png')]) for o in ('train','test')]==[1437,360]
    assert not [*tmp_path.rglob('.part-*')]
    assert len(errors[2].splitlines())==1 and 'cannot be written (File too large)' in errors[2]
    full, = full.iterdir()
    resume_run(full)
    assert same(full, a)

@pytest.mark.skipif(sys.platform!='linux', reason='/proc')
def test_folder_that_cannot_be_made():
    with pytest.raises(InputError, match='^--out /proc/nothing: cannot be written'): train(quick, 'digits', out='/proc/nothing')

class Sends(Callback):
    "Send this process a signal at the end of epoch `n`, or in its first batch"
    order = Checkpoint.order+1
    def __init__(self, n, first=False): self.n,self.first = n,first
    def send(self): os.kill(os.getpid(), signal.SIGINT)
    def before_batch(self):
        if self.first and self.training and (self.epoch,self.iter)==(self.n,0): self.send()
    def after_epoch(self):
        if not self.first and self.epoch==self.n and not self.learn.lock.locked(): self.send()

def test_stop_in_the_first_epoch(tmp_path):
    "The run is stopped without an accuracy, and begins anew"
    whole = train(quick, 'digits', out=tmp_path/'whole')
    with pytest.raises(KeyboardInterrupt, match='stopped; go on with: hrf_train --resume'):
        train(quick, 'digits', out=tmp_path/'stopped', cbs=Sends(0, first=True))
    run, = (tmp_path/'stopped').iterdir()
    assert load_run(run).summary['status']=='stopped' and load_run(run).summary['accuracy'] is None
    assert same(resume_run(run), whole)

def test_signal_after_the_last_batch_is_too_late(tmp_path):
    assert load_run(train(quick, 'digits', out=tmp_path, cbs=Sends(1))).summary['status']=='complete'

def stopped(out, cbs=None):
    "A run that was stopped in its second epoch"
    with pytest.raises(KeyboardInterrupt): train(quick, 'digits', out=out, cbs=[Sends(1, first=True), *(cbs or [])])
    return next(Path(out).iterdir())

class Remembers(Callback):
    def state_dict(self): return {}
    def load_state_dict(self, d): pass

def test_resume_without_a_callback_that_has_a_state(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, 'every', 0.)
    run = stopped(tmp_path)
    kept = (run/'summary.json').read_bytes(),(run/'history.csv').read_bytes()
    with pytest.raises(InputError, match=r'checkpoint.pt: not a file of a run \([^\n]*Remembers'): resume_run(run, cbs=Remembers())
    assert ((run/'summary.json').read_bytes(),(run/'history.csv').read_bytes())==kept
    assert load_run(resume_run(run)).summary['status']=='complete'

@pytest.fixture(scope='module')
def unfinished(tmp_path_factory):
    run,learn = tmp_path_factory.mktemp('unfinished'),quick.learner(quick.dataloaders('digits'))
    write_setting(run, quick, learn, 'digits', 0)
    write_summary(run, learn, History(), 0., 'unfinished')
    return run

def test_run_in_its_first_epoch_can_be_read(unfinished): assert load_run(unfinished).summary['status']=='unfinished'

@pytest.mark.parametrize('name', ['recipe.json','env.json','summary.json','history.csv'])
@pytest.mark.parametrize('text', [None, b'\xff', b'', b'[]', b'['*5000])
def test_missing_and_unreadable_files(name, text, unfinished, tmp_path):
    run = shutil.copytree(unfinished, tmp_path/'run')
    (run/name).unlink()
    if text is not None: (run/name).write_bytes(text)
    with pytest.raises(InputError, match=f'{name}: not a file of a run'): load_run(run)

def test_run_goes_on_without_a_compiler(tmp_path, monkeypatch):
    def fails(*args, **kwargs): raise RuntimeError('no compiler')
    monkeypatch.setattr(torch, 'compile', fails)
    eager,fell_back = [train(quick, 'digits', out=tmp_path/o, loop=o) for o in ('eager','compile')]
    assert load_run(fell_back).summary['loop']=='eager' and 'loop' not in load_run(eager).summary
    assert load_run(fell_back).recipe.loop=='compile' and same(eager, fell_back)
