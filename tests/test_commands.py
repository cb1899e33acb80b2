"What the commands print: no bar where standard output is no terminal, lists that can be read, and one line for bad input."
import io, json, os, re, signal, subprocess, sys
import pandas as pd, pytest
from cifar_hrf import cli, source
from cifar_hrf.recipe import recipes
from cifar_hrf.core import show_progress
from cifar_hrf.source import cifar_path
from cifar_hrf.cli import command, hrf_bench, hrf_find, hrf_rf, hrf_train
from cifar_hrf.runs import load_run

small = ['--recipe','digits','--set','width=1','bs=512']

@pytest.fixture
def many(class_folders, tmp_path, monkeypatch):
    "A folder with more images than are read in silence, and an empty cache"
    path = class_folders(n=2, size=(8,8))
    for f in [*path.rglob('*.png')]:
        for i in range(1280 if 'train' in f.parts else 2): os.link(f, f.with_name(f'{f.stem}-{i}.png'))
    monkeypatch.setattr('cifar_hrf.loaders.cache_path', lambda: tmp_path/'cache')
    return path

def test_log_of_a_run(many, tmp_path, capsys):
    hrf_train(['--data', str(many), '--epochs', '1', '--out', str(tmp_path/'runs'), *small, 'pad=1'])
    out = capsys.readouterr().out
    assert '\r' not in out and '█' not in out and len(out)<1200
    lines = [re.sub(r' +', ' ', o) for o in out.splitlines() if 'overfitting' not in o]
    assert [re.sub(r'\d+ s', '… s', o) for o in lines[:4]]==[
        'computing statistics of 5,124 images ...', 'computing statistics of 5,124 images: done in … s',
        'reading 5,124 images ...', 'reading 5,124 images: done in … s']
    assert [o.split()[0] for o in lines[4:6]]==['epoch','0']
    assert lines[6]=='' and lines[7].startswith('accuracy') and len(lines)==9
    load_run(next((tmp_path/'runs').iterdir())).interpret(many)
    assert capsys.readouterr().out==''

def test_log_of_a_range_test(class_folders, tmp_path, capsys):
    hrf_find(['--data', str(class_folders(n=40, size=(32,32))), '--seeds', '1', '--steps', '20', '--out', str(tmp_path/'runs'), *small, 'bs=8'])
    out = capsys.readouterr().out
    assert '\r' not in out and '█' not in out and '|' not in out and out.startswith('\nLRMAX')

def test_log_of_a_download(class_folders, monkeypatch, capsys, tmp_path):
    def untar(url): print('█', end='\r'); raise OSError('no network')
    monkeypatch.setattr(source, 'untar_data', untar)
    monkeypatch.setattr(source, '_home', lambda o: tmp_path)
    with pytest.raises(source.InputError, match='cannot be downloaded'): cifar_path()
    assert capsys.readouterr().out=='downloading CIFAR-10 ...\n'

class Terminal(io.StringIO):
    def isatty(self): return True

def test_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', Terminal())
    assert list(show_progress(range(3), 'counting'))==[0,1,2]
    assert '100.00% [3/3' in sys.stdout.getvalue() and 'counting' not in sys.stdout.getvalue()

def test_list_is_grouped(capsys):
    hrf_train(['--list'])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines))<=100
    listed = [o.split()[0] for o in lines if o.startswith('  ')]
    assert sorted(listed)==sorted(recipes)
    assert len([o for o in lines if o and not o.startswith(' ')])>=6 # headings

# how a command ends

def ended(f, line, capsys):
    "Exit status and standard error of the command `f`"
    with pytest.raises(SystemExit) as e: f(line.split())
    return e.value.code,capsys.readouterr().err

def test_process_with_bad_input(tmp_path):
    program = 'from cifar_hrf.cli import hrf_train; hrf_train()'
    r = subprocess.run([sys.executable, '-c', program, '--data', 'nowhere', '--recipe', 'lite'], cwd=tmp_path, capture_output=True, text=True)
    assert (r.returncode,r.stdout,r.stderr)==(2,'','hrf_train: nowhere: no such file or folder\n')
    assert not list(tmp_path.iterdir())

@pytest.fixture
def interrupts():
    "A command that ends by Ctrl-C ignores further ones, and so does a process in the background; the tests should not"
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)

@pytest.mark.parametrize('number', [signal.SIGTERM,signal.SIGINT])
def test_stopped_command(number, interrupts, capsys):
    def wait(args):
        with command(wait):
            os.kill(os.getpid(), number)
            raise AssertionError('goes on')
    assert ended(wait, '', capsys)==(130,'\nstopped\n')

def test_stopped_command_says_how_to_go_on(interrupts, capsys):
    def wait(args):
        with command(wait): raise KeyboardInterrupt('stopped; go on with: hrf_train --resume RUN')
    assert ended(wait, '', capsys)==(130,'\nstopped; go on with: hrf_train --resume RUN\n')

@pytest.mark.parametrize('f,line,message', [
    (hrf_train, '--epochs -3', '--epochs: -3: needs a whole number'), (hrf_train, '--epochs x', '--epochs: x'),
    (hrf_train, '--seed 99999999999999999999', 'needs a whole number from 0 to 4294967295'),
    (hrf_train, '--ep 3', 'unrecognized arguments: --ep 3'), (hrf_train, '--resume x --seed 3', '--seed: a resumed run has its own'),
    (hrf_train, '--recipe lite --show --epochs 2 --set epochs=0', 'epochs=0'), (hrf_train, '--data digits --set widht=3', 'widht: no such field'),
    (hrf_train, '--data digits --set valid=1.5', 'valid=1.5'), (hrf_train, '--data digits --out file/x', 'cannot be written'),
    (hrf_find, '--data digits --start 0', 'start=0.0'), (hrf_find, '--data digits --end nan', 'end=nan'),
    (hrf_find, '--data digits --start x', 'invalid float value'), (hrf_find, '--data digits --on test', 'on=test'),
    (hrf_find, '--data digits --mode log', 'mode=log'), (hrf_find, '--seeds 0', '--seeds: 0'),
    (hrf_rf, '--size 0', 'height=0: needs a whole number'), (hrf_rf, '--size 32x32x3', 'needs a number of pixels'),
    (hrf_rf, '--channels 1', 'does not run on an image of 32×32 with 1 channels'), (hrf_rf, '--out file/a', 'cannot be written'),
    (hrf_bench, '--data digits --only ,', 'needs some of loader'),
])
def test_bad_input(f, line, message, tmp_path, monkeypatch, capsys):
    (tmp_path/'file').touch()
    monkeypatch.chdir(tmp_path)
    code,err = ended(f, line, capsys)
    assert code==2 and message in err and err.count('\n')==1
    assert os.listdir()==['file']

# what a run prints and leaves

def test_views_are_reported(tmp_path, capsys):
    hrf_train(['--data','digits','--epochs','1','--out',str(tmp_path),*small,'tta=mirror'])
    assert re.search(r'accuracy [\d.]+% on 360 test images after 1 epoch \([\d.]+% over two views of each\); ', capsys.readouterr().out)

def test_range_test_of_a_recipe(tmp_path):
    "The recipe's own settings, but for the number of steps"
    hrf_find(f'--data digits --recipe s002 --set width=4 bs=64 opt=sgd --seeds 1 --steps 30 --out {tmp_path}'.split())
    settings = json.loads(next(tmp_path.iterdir()).joinpath('lr_range.json').read_text())['settings']
    assert [settings[k] for k in ('start','n_iter','rule','on')]==[.1,30,'steepest','valid']

def test_one_of_two_runs_diverges(monkeypatch, tmp_path, capsys):
    class Summary:
        recipe,env = recipes['digits'],dict(n_valid=360)
        def __init__(self, path): self.summary = dict(status=path, accuracy=.5, epochs=3, train_seconds=1., seconds=2.)
    monkeypatch.setattr(cli, 'load_run', Summary)
    monkeypatch.setattr(cli, 'read_runs', lambda paths: pd.DataFrame())
    with pytest.raises(SystemExit) as e: cli._report(['complete','diverged'])
    out,err = capsys.readouterr()
    assert e.value.code==1 and 'no accuracy after 3 epochs; diverged' in err
    assert '1 of 2 runs complete: mean 50.00%, 50.00% to 50.00%' in out

def test_network_in_a_file(tmp_path, capsys):
    "It may import its neighbours, have the name of a known module, and use dataclasses"
    (tmp_path/'mine.py').write_text('from torch import nn\ndef small(): return nn.Conv2d(1, 4, 3)\ndef broken(): return 1/0')
    (tmp_path/'random.py').write_text('from __future__ import annotations\nimport mine\nfrom dataclasses import dataclass\n'
                                      '@dataclass\nclass Net:\n    n: int = 1\ndef net(): return mine.small()')
    hrf_rf(f'--model {tmp_path}/random.py:net --channels 1 --size 28x40 --out {tmp_path}/out'.split())
    assert pd.read_csv(tmp_path/'out'/'random-py-net-28x40.csv').rf.tolist()==[3]
    assert 'ZeroDivisionError: division by zero' in ended(hrf_rf, f'--model {tmp_path}/mine.py:broken', capsys)[1]

def test_bench_keeps_its_rows(monkeypatch, tmp_path):
    "The table is written after each row"
    def rows(b):
        yield 'first',[1.],[2.],'s'
        assert pd.read_csv(tmp_path/'bench.csv').what.tolist()==['first']
        yield 'second',[1.],[2.],'s'
    monkeypatch.setitem(cli.bench_groups, 'start', lambda b: ((a, pd.Series(o), pd.Series(p), u) for a,o,p,u in rows(b)))
    hrf_bench(f'--data digits --only start --out {tmp_path}'.split())
    df = pd.read_csv(tmp_path/'bench.csv')
    assert list(df)=='what ours other ratio low high unit data cpu gpu threads torch torchvision fastai commit dirty time'.split()
    assert df.what.tolist()==['first','second'] and set(df.data)=={'digits'}
