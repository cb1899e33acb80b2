"Training: names that must not clash, what a failed run leaves, and how a run knows its data again."
import contextlib, inspect, json
import pytest
from fastai.vision.all import Callback, Learner, Path
from cifar_hrf.recipe import Recipe, get_recipe, recipes
from cifar_hrf.results import read_runs
from cifar_hrf.core import InputError
from cifar_hrf.runs import load_run
from cifar_hrf.many import train_many
from cifar_hrf.train import find_lr, resume_run, train

quick = get_recipe('digits').replace(epochs=1, width=2)

@pytest.mark.parametrize('f', [train, train_many, find_lr])
def test_no_recipe_field_is_an_argument(f):
    own = {*inspect.signature(f).parameters}
    if f is find_lr: own -= {*inspect.signature(Learner.lr_range_test).parameters} # `find_lr` takes these, and no fields
    assert not own & {*Recipe.model_fields}

def test_fields_of_former_versions():
    old = json.loads(recipes['spec'].to_json())
    assert Recipe.from_json(json.dumps({**old, 'out': 'logits', 'hidden': []}))==recipes['spec'] # they did nothing
    with pytest.raises(InputError, match='^out'): Recipe.from_json(json.dumps({**old, 'out': 'softmax'}))

class Fails(Callback):
    def after_step(self): raise RuntimeError('out of memory')

class FailsOnce(Callback):
    def __init__(self): self.failed = False
    def after_step(self):
        if not self.failed: self.failed = True; raise RuntimeError('out of memory')

class Stops(Callback):
    order = 99 # after the checkpoint is written
    def after_epoch(self): raise KeyboardInterrupt

def stopped(source, out):
    "A run on `source` that was stopped after the first of two epochs"
    with pytest.raises(KeyboardInterrupt): train(quick.replace(epochs=2), source, out=out, cbs=Stops())
    return next(Path(out).iterdir())

def test_traceback_of_a_failed_run(class_folders, tmp_path, capsys):
    path = class_folders(n=8, size=(32,32))
    failed,good = train_many(quick, path, 2, tmp_path/'runs', cbs=FailsOnce())
    text = (failed/'error.txt').read_text()
    assert text.startswith('Traceback') and 'in after_step' in text and text.endswith('out of memory\n')
    assert f'see {failed/"error.txt"}' in capsys.readouterr().out and not (good/'error.txt').exists()
    resume_run(failed, path)
    assert load_run(failed).summary['status']=='complete' and not (failed/'error.txt').exists()

def test_traceback_of_a_single_failed_run(class_folders, tmp_path):
    with pytest.raises(RuntimeError): train(quick, class_folders(n=8, size=(32,32)), out=tmp_path/'runs', cbs=Fails())
    assert next((tmp_path/'runs').glob('*/error.txt')).read_text().endswith('out of memory\n')

def test_folder_is_recorded_by_its_own_name(class_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(class_folders('mine', n=8, size=(32,32))/'train')
    env = load_run(train(quick, '..', out=tmp_path/'runs')).env
    assert (env['data'],env['source'])==('mine','folder')

@pytest.mark.parametrize('name', ['cifar10','digits','mine'])
def test_resume_of_a_folder(name, class_folders, tmp_path, monkeypatch):
    path = class_folders(name, n=8, size=(32,32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('cifar_hrf.source.untar_data', lambda *_: pytest.fail('tries to download CIFAR-10'))
    run = stopped(path, tmp_path/'runs')
    with pytest.raises(InputError, match=f'trained on a folder {name}; name it: --data FOLDER'): resume_run(run)
    resume_run(run, f'./{name}' if name!='mine' else name)
    assert load_run(run).summary['status']=='complete'

def test_message_names_a_folder_as_a_folder(class_folders, tmp_path, monkeypatch):
    class_folders('digits', n=8, size=(32,32))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt, match='--data ./digits'): train(quick.replace(epochs=2), Path('digits'), out='runs', cbs=Stops())

def test_resume_of_a_run_of_former_versions(tmp_path):
    run = stopped('digits', tmp_path)
    env = json.loads((run/'env.json').read_text())
    del env['source'] # had only the name
    (run/'env.json').write_text(json.dumps(env))
    assert load_run(resume_run(run)).summary['status']=='complete'
