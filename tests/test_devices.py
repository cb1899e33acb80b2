"What differs between a CPU, a GPU and a Mac, shown on a CPU by stand-ins."
import pytest, torch
import matplotlib.pyplot as plt
from fastai.vision.all import Callback, DataLoaders, nn
from torch._subclasses import FakeTensorMode
from cifar_hrf import bench, resident as resident_module, train as runs
from cifar_hrf.interpret import ImageInterpretation
from cifar_hrf.learner import hrf_learner
from cifar_hrf.loaders import cifar_dls
from cifar_hrf.resident import clean_batches, resident
from cifar_hrf.layers import whiten_
from cifar_hrf.models import custom_resnet
from cifar_hrf.recipe import get_recipe

@pytest.fixture
def mac_random(monkeypatch):
    "A generator in place of that of a Mac's GPU"
    state = torch.Generator()
    monkeypatch.setattr('torch.backends.mps.is_available', lambda: True)
    for name,f in dict(device_count=lambda: 1, manual_seed=state.manual_seed, get_rng_state=lambda device='mps': state.get_state(),
                       set_rng_state=lambda new, device='mps': state.set_state(new)).items(): monkeypatch.setattr(torch.mps, name, f)
    return state

@pytest.fixture(scope='module')
def digits(): return resident(cifar_dls('digits', bs=256, num_workers=0))

def net(): return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))

def interpret(dls):
    learn = hrf_learner(dls, net(), precision='fp32')
    with learn.no_bar(): ImageInterpretation.from_learner(learn).plot_misclassified(2)
    plt.close('all')

def range_test(dls): hrf_learner(dls, net(), precision='fp32', cbs=[]).lr_range_test(n_iter=20)

@pytest.mark.parametrize('f', [clean_batches, resident, interpret, range_test])
def test_random_state_of_a_mac_is_put_back(f, digits, mac_random):
    dls = cifar_dls('digits', bs=256, num_workers=0) if f is resident else digits
    mac_random.manual_seed(7)
    before = mac_random.get_state()
    f(dls)
    assert torch.equal(mac_random.get_state(), before)

def test_seeds_draw_other_augmentation_on_a_mac(digits, mac_random):
    recipe = get_recipe('digits').replace(width=4, stem='whiten')
    draws = []
    for seed in 0,1:
        recipe.learner(digits, seed)
        draws.append(torch.rand(1, generator=mac_random).item())
    assert draws[0]!=draws[1]

class Draws(Callback):
    "Draws on the Mac's GPU in each training batch"
    def __init__(self, random): self.random,self.drawn = random,[]
    def before_batch(self):
        if self.training: self.drawn.append(torch.rand(1, generator=self.random).item())

def drawn(digits, random, path, state=None, **kwargs): # -> what was drawn in an epoch
    learn,draws = hrf_learner(digits, net(), precision='fp32'),Draws(random)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .01, cbs=[runs.Checkpoint(path, state), draws])
    return draws.drawn

def test_checkpoint_goes_on_as_before_on_a_mac(digits, mac_random, tmp_path, monkeypatch):
    drawn(digits, mac_random, tmp_path/'a.pt')
    goes_on = torch.rand(1, generator=mac_random).item()
    state = torch.load(tmp_path/'a.pt', weights_only=True)
    mac_random.manual_seed(7)
    assert drawn(digits, mac_random, tmp_path/'b.pt', state)[0]==goes_on
    monkeypatch.setattr('torch.backends.mps.is_available', lambda: False) # on another machine
    monkeypatch.setattr('torch.mps.set_rng_state', lambda *_: 1/0)
    assert drawn(digits, mac_random, tmp_path/'c.pt', state)

def test_whitening_decomposes_on_the_cpu(monkeypatch, imagined_gpu):
    "PyTorch has no `eigh` for a Mac's GPU"
    eigh,devices = torch.linalg.eigh,[]
    monkeypatch.setattr(torch.linalg, 'eigh', lambda x: (devices.append(x.device.type), eigh(x))[1])
    monkeypatch.setattr(torch.Tensor, 'cov', lambda x: x@x.T) # PyTorch's asks for values, which a fake tensor lacks
    with FakeTensorMode(), torch.device('cuda'): conv = whiten_(nn.Conv2d(3, 24, 2), torch.empty(8, 3, 8, 8))
    assert (devices,conv.weight.device.type)==(['cpu'],'cuda')

@pytest.mark.parametrize('device,expected', [('cpu',True),('cuda',True),('mps',False)])
def test_channels_last_not_on_a_mac(device, expected):
    "There, BatchNorm's gradients are wrong in this layout"
    dls = DataLoaders([], [])
    dls._device = torch.device(device)
    assert hasattr(hrf_learner(dls, custom_resnet(width=4), precision='fp32'), 'channels_last')==expected

def test_times_wait_for_the_device(monkeypatch):
    waits = []
    for o in 'cuda','mps': monkeypatch.setattr(getattr(torch, o), 'synchronize', lambda *_, o=o: waits.append(o))
    for o in 'cpu','cuda','mps': bench._wait(torch.device(o))
    assert waits==['cuda','mps']

@pytest.mark.parametrize('free,reserved,allocated,expected', [(2000,0,0,True), (1999,0,0,False), (1000,1500,500,True), (1000,1500,501,False)])
def test_free_memory_counts_what_pytorch_keeps(free, reserved, allocated, expected, monkeypatch):
    "Images of 1,000 bytes may take half of what is free, or reserved but unused"
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free,10_000))
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda device: reserved)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda device: allocated)
    assert resident_module._fits(torch.zeros(1000, dtype=torch.uint8), torch.device('cuda'))==expected
