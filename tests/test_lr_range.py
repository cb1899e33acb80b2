"What the LR range test leaves alone."
import numpy as np, pytest, random, torch
from functools import partial
from pathlib import Path
from fastai.callback.mixup import MixUp
from fastai.vision.all import Callback, CrossEntropyLossFlat, CSVLogger, DataLoaders, L, Learner, Tensor, nn, pd, tensor
from cifar_hrf.all import LRRangeTest, StopDiverged, cifar_dls, custom_resnet, hrf_learner, lr_rules, resident
from cifar_hrf.lr_range import _copy_learner

class NoCopy(Tensor):
    "A tensor that must not be copied"
    def clone(self, *args, **kwargs): raise AssertionError('the data was copied')
    __deepcopy__ = clone

class NoCopyArray(np.ndarray):
    "An array that must not be copied"
    def copy(self, *args, **kwargs): raise AssertionError('the data was copied')
    __deepcopy__ = copy

class InMemory(torch.utils.data.Dataset):
    def __init__(self, x, y): self.x,self.y = x,y
    def __len__(self): return len(self.y)
    def __getitem__(self, i): return tensor(np.asarray(self.x[i])),tensor(int(self.y[i]))

x,y = np.random.default_rng(0).normal(size=(96,8)).astype(np.float32),np.arange(96)%2

def fastai_loaders(ds, num_workers=0): return DataLoaders.from_dsets(ds, ds, bs=16, num_workers=num_workers, device='cpu')
def torch_loaders(ds): return DataLoaders(*[torch.utils.data.DataLoader(ds, 16, shuffle=True) for _ in range(2)])
def small_learner(loaders=fastai_loaders, data=x, **kwargs):
    return Learner(loaders(InMemory(data, y)), nn.Linear(8, 2), CrossEntropyLossFlat(), **kwargs)

@pytest.mark.parametrize('on', ['train','valid'])
@pytest.mark.parametrize('loaders', [fastai_loaders, torch_loaders])
@pytest.mark.parametrize('data', [tensor(x).as_subclass(NoCopy), x.view(NoCopyArray)], ids=['tensor','array'])
def test_data_in_memory_is_not_copied(data, loaders, on):
    learn = small_learner(loaders, data)
    dls = learn.dls
    assert isinstance(learn.lr_range_test(n_iter=20, on=on), LRRangeTest)
    assert learn.dls is dls and learn.dls.train.dataset.x is data

def resident_learner(**kwargs):
    return hrf_learner(resident(cifar_dls('digits', bs=64)), custom_resnet(width=4), precision='fp32', **kwargs)

def test_resident_images_are_shared():
    learn = resident_learner()
    copied = _copy_learner(learn)
    for a,b in zip(learn.dls.loaders, copied.dls.loaders):
        assert a is not b and a.images is b.images and a.labels is b.labels and a.dataset is b.dataset

@pytest.mark.parametrize('loaders', [fastai_loaders, partial(fastai_loaders, num_workers=2), torch_loaders])
def test_training_goes_on_as_without_a_test(loaders):
    def trained(find):
        torch.manual_seed(0)
        random.seed(0)
        learn = small_learner(loaders)
        with learn.no_bar(), learn.no_logging():
            for _ in range(2):
                if find: learn.lr_range_test(n_iter=20)
                learn.fit(1, .1)
        return learn.model.weight
    assert torch.equal(trained(True), trained(False))

def test_sweep_starts_from_the_state_of_the_optimizer():
    learn = resident_learner()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .01)
    first = learn.lr_range_test(n_iter=20, end=.1, stop=None).losses
    for o in learn.opt.opt.state.values(): o['momentum_buffer'].mul_(100)
    assert not np.array_equal(learn.lr_range_test(n_iter=20, end=.1, stop=None).losses, first)

def test_seeds_are_a_number_or_a_list():
    learn = small_learner()
    three,last = learn.lr_range_test(n_iter=20, seeds=3),learn.lr_range_test(n_iter=20, seeds=[2])
    assert np.array_equal(three.runs[2], last.losses) and not np.array_equal(three.runs[0], last.losses)

def test_validation_loss_of_a_diverged_net():
    learn = small_learner(cbs=StopDiverged())
    res = learn.lr_range_test(start=1e20, end=1e29, n_iter=20, on='valid', stop=None)
    assert not np.isfinite(res.losses[-1]) and np.isnan(res.lr_max)

def test_validation_ignores_mixup():
    "Its loss function mixes labels of the training batch"
    def losses(**kwargs): return small_learner(**kwargs).lr_range_test(start=1e-30, end=1e-29, n_iter=20, on='valid', stop=None).losses
    torch.manual_seed(0)
    mixed = losses(cbs=MixUp())
    torch.manual_seed(0)
    assert np.allclose(mixed, losses())

class OpenFile(Callback):
    def __init__(self, path): self.file = open(path, 'w')

def test_callbacks_that_cannot_be_copied_stay(tmp_path):
    learn = small_learner(cbs=[OpenFile(tmp_path/'log'), CSVLogger()], path=tmp_path)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .01)
    before = L(learn.cbs)
    learn.lr_range_test(n_iter=20)
    assert list(learn.cbs)==list(before) and all(cb.learn is learn for cb in learn.cbs)

@pytest.mark.parametrize('event', ['after_batch','after_train'])
@pytest.mark.parametrize('make', [small_learner, resident_learner])
def test_a_sweep_in_a_fit(make, event):
    found = []
    class Finds(Callback): order = 80
    def find(cb):
        if cb.training and not hasattr(cb.learn, 'lr_finder') and not found: found.append(cb.learn.lr_range_test(n_iter=20, end=.1))
    setattr(Finds, event, find)
    learn = make(cbs=Finds())
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .01)
    assert len(found)==1 and len(found[0].losses)==20

def test_own_rule(monkeypatch):
    monkeypatch.setitem(lr_rules, 'first', lambda lrs,losses: lrs[0])
    found = LRRangeTest(np.geomspace(1e-6, 1, 50), np.linspace(2, 1, 50), rule='first')
    assert found.lr_max==1e-6 and list(found.suggestions)==['turn','valley','steepest','first']

def test_files_of_older_tests_are_read():
    df = pd.read_csv(Path(__file__).parent.parent/'results/lr_range/spec/lr_range.csv')
    picks = LRRangeTest.from_frame(df).suggestions
    assert picks==pytest.approx(dict(turn=0.08902150854450386, valley=0.0015199110829529332, steepest=3.1992671377973827))

def test_workers_are_closed_with_the_sweep():
    learn = small_learner(partial(fastai_loaders, num_workers=2))
    learn.lr_range_test(n_iter=20)
    assert not torch.multiprocessing.active_children()
