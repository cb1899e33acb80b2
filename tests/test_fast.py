"A fast learner gives what a stock one gives, also with unusual loaders, callbacks, groups and loggers."
import math, pickle, subprocess, sys, warnings, pytest, torch
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace
from unittest import mock
from fastai.vision.all import (Adam, Callback, CancelFitException, CastToTensor, ContextManagers, CrossEntropyLossFlat, DataLoaders, ImageDataLoaders,
    L, Learner, MixedPrecision, OptimWrapper, RAdam, SGD, ShowGraphCallback, Tensor, accuracy, copy, defaults, load_learner, nn, noop, params, partial,
    set_seed)
from fastai.callback.tensorboard import TensorBoardCallback
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from cifar_hrf.callbacks import EMA
from cifar_hrf.fast import FastLearner, FastMixedPrecision, FastRecorder, FastWrapper
from cifar_hrf.layers import conv_block
from cifar_hrf.learner import hrf_learner, optimizers
from cifar_hrf.loaders import cifar_dls
from cifar_hrf.models import custom_resnet
from cifar_hrf.muon import MuonSGD
from cifar_hrf.resident import resident

@pytest.fixture(scope='module')
def digits(): return resident(cifar_dls('digits', bs=16, pad=0, cutout=0))

def few(dls, n=144):
    res = copy(dls)
    res.loaders = [dl.new() for dl in dls.loaders]
    for dl,k in zip(res.loaders, (n,64)): dl.n = k
    return res

def tiny(): return nn.Sequential(conv_block(3, 8, pool=True), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 10))

def torch_loaders(dls):
    data = [torch.utils.data.TensorDataset(dl.images.as_subclass(Tensor).float()/255, dl.labels.as_subclass(Tensor)) for dl in dls.loaders]
    return DataLoaders(*(torch.utils.data.DataLoader(o, 64, shuffle=True) for o in data))

class Idle(Callback): pass
class Doubles(Callback):
    def after_pred(self): self.learn.pred = 2*self.pred
class ComeAndGo(Callback):
    "Puts another callback in the place of one, within an epoch"
    def after_batch(self):
        if self.training and self.iter==1: self.learn.remove_cb(Idle); self.learn.add_cb(Doubles())

def outcome(dls, fast, change=noop, cbs=(), opt_func=SGD, **kwargs):
    "Losses and weights of two fits"
    set_seed(0)
    learn = Learner(dls, tiny(), CrossEntropyLossFlat(), opt_func, lr=.05, wd=.1, **kwargs)
    if fast: learn.fast()
    change(learn)
    losses = []
    with learn.no_bar(), learn.no_logging():
        for _ in range(2): learn.fit(1, cbs=[o() for o in cbs]); losses += learn.recorder.losses
    return torch.stack(losses),[o.detach() for o in learn.model.parameters()]

torch_sgd = partial(OptimWrapper, opt=torch.optim.SGD, momentum=.9)
def body_and_head(m): return [params(m[:2]), params(m[2:])]
cases = dict(torch_loaders=dict(dls=torch_loaders), come_and_go=dict(cbs=[Idle,ComeAndGo]),
             images=dict(change=lambda learn: learn.remove_cb(CastToTensor)), groups=dict(opt_func=torch_sgd, splitter=body_and_head),
             frozen=dict(opt_func=torch_sgd, splitter=body_and_head, change=Learner.freeze), radam=dict(opt_func=RAdam))

@pytest.mark.parametrize('name', cases)
def test_same_as_stock(digits, name):
    kwargs = dict(cases[name])
    make = kwargs.pop('dls', noop)
    (a,ps),(b,qs) = [outcome(make(few(digits)), fast, **kwargs) for fast in (False,True)]
    assert torch.equal(a, b) and all(map(torch.equal, ps, qs))

def test_graph_and_logs(digits, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    def logged(fast):
        set_seed(0)
        opt_func = torch_sgd if fast else partial(torch_sgd, foreach=False, fused=False) # a stock learner cannot log None
        learn = Learner(few(digits), tiny(), CrossEntropyLossFlat(), opt_func, metrics=accuracy, path=tmp_path)
        if fast: learn.fast()
        graphs,d = [],tmp_path/str(fast)
        class Seen(Callback):
            def before_epoch(self): self.progress.mbar.update_graph = lambda curves,*_: graphs.append([[float(o) for o in y] for _,y in curves])
        with redirect_stdout(StringIO()), learn.no_logging():
            learn.fit(2, .05, cbs=[ShowGraphCallback(), Seen(), TensorBoardCallback(log_dir=d, trace_model=False, log_preds=False)])
        events = EventAccumulator(str(d)).Reload()
        return graphs,{k: [(o.step, o.value) for o in events.Scalars(k)] for k in events.Tags()['scalars'] if k not in ('foreach_0','fused_0')}
    (graphs,a),(other,b) = logged(False),logged(True)
    assert graphs and graphs==other and a==b and len(a)>2

def test_pickled_learner_goes_on(digits):
    learn = Learner(few(digits), tiny(), CrossEntropyLossFlat(), torch_sgd).fast(compile=True)
    learn.compiled,learn._compiled_model = 'default',lambda x: learn.model(x) # what a compiler would leave
    twin = pickle.loads(pickle.dumps(learn))
    with twin.no_bar(), twin.no_logging(): twin.fit(1, .1)
    assert type(twin) is FastLearner and twin.compiled is None and type(twin.opt) is FastWrapper

def test_validate_keeps_the_smoothed_loss(digits):
    learn = Learner(few(digits), tiny(), CrossEntropyLossFlat()).fast()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, .01)
        last = learn.smooth_loss
        learn.validate()
    assert learn.smooth_loss==last

def test_cancelled_fit_leaves_its_losses(digits):
    class Ends(Callback):
        order = 60
        def after_batch(self):
            if self.training and self.iter==3: raise CancelFitException()
    learn = Learner(few(digits), tiny(), CrossEntropyLossFlat()).fast()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .01, cbs=Ends())
    assert len(learn.recorder.losses)==len(learn.recorder.lrs)==4

def test_optimizer_made_beforehand(digits, tmp_path):
    net = tiny()
    learn = Learner(few(digits), net, CrossEntropyLossFlat(), OptimWrapper(opt=torch.optim.Adam(net.parameters())), path=tmp_path).fast()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .01)
    learn.export()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert type(load_learner(tmp_path/'export.pkl').opt_func) is OptimWrapper

def test_export_loads_without_this_package(class_folders, tmp_path):
    dls = ImageDataLoaders.from_folder(class_folders(), train='train', valid='test', bs=4, num_workers=0)
    learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), CrossEntropyLossFlat(), path=tmp_path, cbs=MixedPrecision()).fast()
    learn.create_opt()
    learn.export()
    code = "import sys; sys.modules['cifar_hrf'] = None; from fastai.learner import *; print(type(load_learner(sys.argv[1])).__name__)"
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, tmp_path/'export.pkl'], capture_output=True, text=True)
    assert res.stdout.strip()=='Learner', res.stderr

@pytest.mark.parametrize('opt', [torch.optim.SGD,MuonSGD])
def test_first_fp16_step_that_overflows_is_skipped(opt):
    "PyTorch's fused SGD leaves its momentum unset then"
    def after_steps(*sizes):
        torch.manual_seed(0)
        net,half,scaler = nn.Conv2d(4, 2, 1),FastMixedPrecision(),torch.amp.GradScaler('cpu')
        wrapper = FastWrapper(net.parameters(), opt, lr=.1, momentum=.9, fused=True)
        half.learn,half.scales = SimpleNamespace(opt=wrapper, scaler=scaler),[]
        for size in sizes:
            wrapper.zero_grad()
            scaler.scale(net(torch.ones(3, 4, 1, 1)).mean()*size).backward()
            half.before_step(); wrapper.step(); scaler.update()
        return torch.cat([o.detach().flatten() for o in net.parameters()])
    torch.use_deterministic_algorithms(True) # so that memory which nobody has written is not a number
    try: assert torch.allclose(after_steps(math.inf, 1., 2.), after_steps(1., 2.), atol=1e-7)
    finally: torch.use_deterministic_algorithms(False)
    assert (after_steps(1., 2.)-after_steps(1.)).abs().min()>1e-4

class NoCopies(TorchDispatchMode):
    "Raises if a tensor of a GPU is copied to the host, and waited for"
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        copied = func is torch.ops.aten._to_copy.default and (args[0].device.type,out.device.type)==('cuda','cpu')
        if copied and not (kwargs or {}).get('non_blocking'): raise RuntimeError('a copy that waits')
        return out

def imagined_steps(cbs=None, **kwargs):
    "Two steps on an imagined GPU: its tensors have a shape and a place, but no values, so asking for one is an error"
    def backward():
        for p in learn.model.parameters(): p.grad = torch.empty_like(p)
    stand_ins = {'torch.cuda.Event': mock.Mock(**{'return_value.query.return_value': False}), # no loss has come over yet
                 'torch.cuda.is_bf16_supported': lambda **_: True, 'torch.cuda.amp.common.amp_definitely_not_available': lambda: False,
                 'fastai.losses.BaseLoss._contiguous': lambda self,x: x, # which makes a subclass
                 'torch.nn.Module.to': lambda m,*_,**__: m, # this, and the fused step, have no form without values
                 'torch._fused_sgd_': lambda ps,*ls,**_: [p.add_(o) for l in ls for p,o in zip(ps, l)]}
    patches = [mock.patch.object(defaults, 'use_cuda', None), *(mock.patch(k, v) for k,v in stand_ins.items())]
    with ContextManagers(patches), FakeTensorMode(), NoCopies(), warnings.catch_warnings():
        warnings.simplefilter('ignore') # of autocast, which looks for a GPU
        with torch.device('cuda'): # only what is there before the training
            model,b = custom_resnet(width=8),(torch.empty(64, 3, 32, 32),torch.empty(64, dtype=torch.int64))
        for m in model.modules():
            if isinstance(m, nn.Conv2d): m.weight = nn.Parameter(m.weight.contiguous(memory_format=torch.channels_last))
        dls = DataLoaders([b]*2, [])
        dls._device = torch.device('cuda')
        learn = hrf_learner(dls, model, cbs=cbs, **kwargs)
        learn._backward,learn.epoch,learn.n_epoch,learn.n_iter,learn.dl = backward,0,1,2,dls.train
        learn.create_opt()
        with learn.no_logging():
            for o in 'before_fit','before_epoch','before_train': learn(o)
            for i,b in enumerate(dls.train): learn.one_batch(i, b)
    return learn

@pytest.mark.parametrize('precision', ['fp32','bf16','fp16'])
@pytest.mark.parametrize('opt', optimizers)
def test_no_step_waits_for_a_gpu(opt, precision, imagined_gpu):
    learn = imagined_steps(EMA(every=1), precision=precision, opt_func=optimizers[opt])
    assert (len(learn.recorder.losses),learn.ema.count)==(2,2) and all(g['fused'] for g in learn.opt.opt.param_groups)

def test_losses_come_to_the_cpu_after_each_epoch(imagined_gpu):
    recorder = FastRecorder()
    recorder.losses,recorder.n_read = [],0
    with FakeTensorMode():
        for _ in range(2):
            recorder.losses.append(torch.zeros(1, device='cuda')) # fake scalars of two devices would mix
            recorder.after_fit()
    assert [o.device.type for o in recorder.losses]==['cpu']*2

@pytest.mark.parametrize('f', [Tensor.item, Tensor.cpu, lambda x: x+torch.zeros(3)])
def test_waiting_for_a_gpu_is_noticed(f, imagined_gpu):
    class Asks(Callback):
        def after_loss(self): f(self.loss.detach())
    with pytest.raises(RuntimeError, match='in `Asks`'): imagined_steps(Asks())
