"The bench times what a recipe runs with."
from types import SimpleNamespace
import pytest, torch
from fastai.vision.all import Learner
from cifar_hrf import bench
from cifar_hrf.loaders import cifar_dls
from cifar_hrf.resident import resident

def test_row_with_all_callbacks_of_a_recipe(monkeypatch):
    seen,fit = [],Learner.fit
    def noted(self, *args, cbs=None, **kwargs):
        fit(self, *args, cbs=cbs, **kwargs)
        seen.append({type(o).__name__ for o in [*self.cbs, *cbs]})
    monkeypatch.setattr(Learner, 'fit', noted)
    few = bench._few
    monkeypatch.setattr(bench, '_few', lambda dls,n,bs: few(dls, 3, bs)) # 3 steps, not 200
    device = torch.device('cpu')
    b = SimpleNamespace(dls=resident(cifar_dls('digits', bs=16, num_workers=0)), bs=16, steps=2, repeats=1, width=1, device=device, bf16=False)
    rows = {what: (ours,other) for what,ours,other,_ in bench._bench_loop(b)}
    assert any(o>={'History','RunProgress','StopDiverged','EMA','Checkpoint','PhaseScheduler','StepTime'} for o in seen)
    assert rows['loop/trivial/run-ms'][1]==pytest.approx(rows['loop/trivial/fast-ms'][1]) # both beside the stock Learner


def test_rows_of_a_step(monkeypatch):
    "Without the compiler, which takes long; `each` gets the table after each row"
    monkeypatch.setattr(torch, 'compile', lambda net: net)
    few,saved = bench._few,[]
    monkeypatch.setattr(bench, '_few', lambda dls,n,bs: few(dls, 2, 8)) # 2 steps of 8 images
    df = bench.bench('digits', only=['step'], width=1, repeats=1, each=saved.append)
    assert df.what.tolist()==['step/nchw','step/compile'] and [len(o) for o in saved]==[1,2]
    assert ((df.low<=df.ratio) & (df.ratio<=df.high)).all()
