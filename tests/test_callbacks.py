"`History`, `RunProgress`, `StopDiverged`, `EMA` and `TTA` in every use of a learner."
import numpy as np, pickle, re, warnings, pytest, torch
from contextlib import redirect_stdout
from io import StringIO
from torch import nn
from fastai.vision.all import Callback, MixedPrecision, ProgressCallback, no_random, noop, partial, pd, set_seed
from cifar_hrf.all import EMA, TTA, History, ImageInterpretation, RunProgress, cifar_dls, hrf_learner, resident

def small_dls():
    dls = resident(cifar_dls('digits', bs=64))
    dls.train.n,dls.valid.n = 192,128
    return dls

def small_net(): return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))

def small_learner(*cbs, **kwargs):
    "A quick learner; `cbs` stay with it"
    set_seed(0)
    dls,net = small_dls(),small_net()
    with torch.no_grad(): net(torch.zeros(1, 3, 32, 32))
    learn = hrf_learner(dls, net, cbs=[*cbs], **kwargs)
    learn.remove_cb(ProgressCallback)
    return learn

def quietly(f, *args, **kwargs):
    with redirect_stdout(StringIO()): return f(*args, **kwargs)

uses = dict(
    predict=lambda learn: learn.predict(np.zeros((32,32,3), np.uint8)),
    get_preds=lambda learn: learn.get_preds(),
    validate=lambda learn: learn.validate(),
    validate_tta=lambda learn: learn.validate(cbs=TTA()),
    interpret=lambda learn: ImageInterpretation.from_learner(learn),
    lr_find=lambda learn: learn.lr_find(num_it=10, show_plot=False),
    lr_range_test=lambda learn: learn.lr_range_test(n_iter=20))

def test_figures_outlast_every_use(tmp_path):
    history = History(tmp_path/'history.csv')
    learn = small_learner(history, RunProgress(), EMA(every=1))
    quietly(learn.fit, 3, .05)
    before,weights = history.df,[o.clone() for o in learn.model.parameters()]
    assert len(before)==3
    for name,use in uses.items():
        quietly(use, learn)
        assert history.df.equals(before), name
        assert len(pd.read_csv(tmp_path/'history.csv'))==3, name
        assert learn.logger is print, name
        assert all(map(torch.equal, weights, learn.model.parameters())), name

@pytest.mark.parametrize('use', ['validate','interpret','lr_find'])
def test_every_use_before_a_fit(use, tmp_path):
    learn = small_learner(History(tmp_path/'history.csv'), RunProgress(), EMA())
    assert quietly(uses[use], learn)
    assert not (tmp_path/'history.csv').exists() and learn.logger is print

class Evaluates(Callback):
    "Runs `f` at `event` of each epoch of a fit, without a change of the random state"
    def __init__(self, event, f): setattr(self, event, partial(self.evaluate, f))
    def evaluate(self, f):
        if self.learn.lock.locked(): return # within the evaluation
        with no_random(): f(self.learn)

def inner(learn): return learn.get_preds(inner=True)
def evaluates(): return [Evaluates(event, uses[o]) for event in ('before_epoch','after_train','after_epoch') for o in ('validate','interpret')]

def test_evaluation_within_a_fit(capsys):
    def figures(*cbs):
        history = History()
        learn = small_learner(history, RunProgress(), EMA(every=1), *cbs)
        learn.fit(3, .05)
        assert learn.logger is print
        return history.df.drop(columns='seconds')
    assert figures(*evaluates(), Evaluates('after_train', inner)).equals(figures())
    rows = re.findall(r'^ +(\d) +[\d.]{6} ', capsys.readouterr().out.replace('\r', '\n'), re.M)
    assert rows==['0','1','2']*2

def test_search_that_was_interrupted():
    class Interrupts(Callback):
        def after_step(self): raise KeyboardInterrupt
    history = History()
    learn = small_learner(history)
    interrupts = Interrupts()
    learn.add_cb(interrupts)
    with pytest.raises(KeyboardInterrupt): quietly(learn.lr_find, show_plot=False)
    learn.remove_cb(interrupts)
    quietly(learn.fit, 2, .05)
    assert len(history.df)==2

def test_divergence_is_remembered():
    learn = small_learner()
    good = [o.clone() for o in learn.model.parameters()]
    quietly(learn.fit, 1, 1e30)
    with torch.no_grad(): [p.copy_(o) for p,o in zip(learn.model.parameters(), good)] # a search needs weights that are finite
    learn.create_opt()
    assert learn.stop_diverged.diverged
    for name,use in uses.items():
        quietly(use, learn)
        assert learn.stop_diverged.diverged, name
    quietly(learn.fit, 1, .01)
    assert not learn.stop_diverged.diverged

@pytest.mark.parametrize('kind,n', [('mirror',2), ('six',6)])
def test_views_are_computed_once_and_summed_in_fp32(kind, n):
    learn = small_learner(precision='bf16')
    outs = []
    hook = learn.model.register_forward_hook(lambda m,x,y: outs.append(y.detach().clone()))
    preds,_ = quietly(learn.get_preds, cbs=TTA(kind), act=noop)
    hook.remove()
    assert len(outs)==n*len(learn.dls.valid) and outs[0].dtype==torch.bfloat16
    shares = [1/2]*2 if kind=='mirror' else [1/4]*2+[1/8]*4
    means = [sum(k*o.float() for k,o in zip(shares, outs[i:i+n])) for i in range(0, len(outs), n)]
    assert torch.equal(preds, torch.cat(means))

class Half(MixedPrecision):
    "16 bits on a CPU, whose scaler does nothing"
    def before_fit(self):
        with warnings.catch_warnings(): # there is no GPU
            warnings.simplefilter('ignore')
            super().before_fit()
        self.autocast = torch.autocast('cpu', torch.float16)

@pytest.mark.parametrize('precision,dtype', [('fp32',torch.float32), ('bf16',torch.bfloat16), ('fp16',torch.float16)])
def test_clean_images_are_seen_in_the_precision_of_validation(precision, dtype):
    history = History()
    half = [Half()] if precision=='fp16' else []
    learn = small_learner(history, *half, precision='fp32' if half else precision)
    outs = []
    hook = learn.model.register_forward_hook(lambda m,x,y: outs.append((m.training, y.dtype)))
    quietly(learn.fit, 1, .01)
    hook.remove()
    n_clean = len(history.clean_batches)
    assert n_clean and outs[-n_clean-1:]==[(False,dtype)]*(n_clean+1) # the last of validation, then the clean ones

def test_one_autocast_serves_a_fit(monkeypatch):
    made = []
    class Counted(torch.autocast):
        def __init__(self, *args, **kwargs): made.append(args); super().__init__(*args, **kwargs)
    monkeypatch.setattr(torch, 'autocast', Counted)
    learn = small_learner(History(), precision='bf16')
    quietly(learn.fit, 3, .01)
    assert len(made)==1

@pytest.mark.parametrize('precision', ['bf16','fp16'])
def test_half_precision_outlasts_evaluation_within_a_fit(precision):
    def figures(*cbs):
        history = History()
        half = [MixedPrecision()] if precision=='fp16' else []
        learn = small_learner(history, *half, *cbs, precision='fp32' if half else precision)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore') # there is no GPU
            quietly(learn.fit, 2, .05)
        assert not torch.is_autocast_enabled('cpu')
        return history.df.drop(columns='seconds')
    assert figures(*evaluates()).equals(figures())

def test_half_precision_can_be_copied_and_exported(tmp_path):
    learn = small_learner(precision='bf16')
    quietly(learn.fit, 1, .01)
    twin = pickle.loads(pickle.dumps(learn))
    quietly(twin.fit, 1, .01)
    learn.path = tmp_path
    learn.export()
    assert not torch.is_autocast_enabled('cpu')
