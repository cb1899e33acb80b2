"Training: names that must not clash, what a failed run leaves, and how a run knows its data again."
import contextlib, dataclasses, inspect, json
import pytest
from fastai.vision.all import Callback, Learner, Path
from cifar_hrf.recipes import Recipe, get_recipe, recipes
from cifar_hrf.results import read_runs
from cifar_hrf.source import InputError
from cifar_hrf.train import find_lr, load_run, resume_run, train, train_many

quick = get_recipe('digits').replace(epochs=1, width=2)

@pytest.mark.parametrize('f', [train, train_many, find_lr])
def test_no_recipe_field_is_an_argument(f):
    own = {*inspect.signature(f).parameters}
    if f is find_lr: own -= {*inspect.signature(Learner.lr_range_test).parameters} # `find_lr` takes these, and no fields
    assert not own & {o.name for o in dataclasses.fields(Recipe)}

def test_field_of_former_versions_is_read():
    old = json.loads(recipes['s002-asrun'].to_json())
    old['out'] = old.pop('output')
    assert Recipe.from_json(json.dumps(old))==recipes['s002-asrun']

def test_changed_of_former_versions_is_read(tmp_path):
    (tmp_path/'runs.csv').write_text('recipe,changed,seed,accuracy\nspec,width=8 out=softmax,0,.5\nspec,,1,.6\n')
    assert read_runs(tmp_path/'runs.csv').changed.tolist()==['width=8 output=softmax','']
