"Every named recipe: its schedule is the stored one, it survives JSON, and it takes two training steps."
from pathlib import Path
import math, numpy as np, pandas as pd, pytest
from fastai.vision.all import Callback, CancelFitException, Recorder
from cifar_hrf.recipe import Recipe, recipes
from cifar_hrf.core import InputError
import cifar_hrf.writeups, cifar_hrf.zoo # they fill `recipes`

results = Path(__file__).parent.parent/'results'
stored = pd.read_csv(results/'checks/schedules.csv').groupby('recipe')

@pytest.mark.parametrize('name', recipes)
def test_schedule(name):
    "49 steps of each schedule of 98 batches an epoch, and sums over all of them"
    rows,steps = stored.get_group(name),recipes[name].schedule().steps(98)
    for k in 'lr','mom':
        values = np.array(steps.get(k, [math.nan]*len(steps['lr'])))
        assert np.allclose(rows[k], values[rows.step], rtol=1e-12, atol=0, equal_nan=True)
        assert np.allclose(rows[f'{k}_sum'], math.fsum(values), rtol=1e-12, equal_nan=True)

class TwoSteps(Callback):
    order = Recorder.order+1
    def after_batch(self):
        if self.training and self.iter==1: raise CancelFitException

@pytest.mark.parametrize('name', recipes)
def test_two_steps(name):
    r = recipes[name]
    assert Recipe.from_json(r.to_json())==r
    if r.model!='resnet56': r = r.replace(**(dict(widths=(16,32,32)) if r.model=='lite_net' else dict(width=16)))
    r = r.replace(bs=8, precision='fp32')
    learn = r.learner(r.dataloaders('digits', 'cpu'))
    before = [o.detach().clone() for o in learn.model.parameters()]
    with learn.no_bar(), learn.no_logging(): learn.fit(r.epochs, cbs=[r.schedule(), TwoSteps()])
    assert len(learn.recorder.losses)==2 and np.isfinite(learn.recorder.losses).all()
    assert any(not a.equal(b) for a,b in zip(before, learn.model.parameters()))

def test_options_reach_their_parts():
    record = recipes['record'].replace(widths=(8,8,8), muon_lr=.1)
    dls = record.dataloaders('digits', 'cpu')
    few,much = [record.replace(whiten_eps=o).learner(dls) for o in (.01,1.)]
    assert few.opt_func(few.model.parameters()).opt.param_groups[0]['muon_lr']==.1
    a,b = [o.model[0].weight for o in (few,much)]
    assert (a.abs()>=b.abs()).all() and not a.equal(b) # the more is added, the smaller the filters
    assert recipes['digits'].replace(width=2, loop='compile').learner(dls).compiled=='default'

@pytest.mark.parametrize('path', sorted(results.rglob('recipe.json')), ids=lambda o: o.parent.name)
def test_old_files(path):
    "Recipes of stored runs are still read, except write-ups whose options are now parts"
    try: assert Recipe.from_json(path.read_text()).name in recipes
    except InputError as e: assert path.parent.name in ('s000','s002','s003','s004') and '\n' not in str(e)

@pytest.mark.parametrize('text', ['{', '['*5000, '[]', '{"name": 3}', '{"name": "..", "epochs": 1}', '{"name": "x", "zzz": 1}',
                                  '{"name": "x", "skip": "twice"}', '{"name": "x", "wd": 1e400}', '{"name": "x", "about": 3}'])
def test_bad_files(text):
    with pytest.raises(InputError) as e: Recipe.from_json(text)
    assert '\n' not in str(e.value)
