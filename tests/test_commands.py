"What the commands print: no bar and no fragment of one where standard output is no terminal, and lists that can be read."
import io, os, re, sys
import pytest
from cifar_hrf import source
from cifar_hrf.recipe import recipes
from cifar_hrf.core import show_progress
from cifar_hrf.source import cifar_path
from cifar_hrf.cli import hrf_find, hrf_train
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
