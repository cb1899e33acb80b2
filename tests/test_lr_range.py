"What the LR range test leaves alone."
import numpy as np, pytest, torch
from fastai.vision.all import CrossEntropyLossFlat, DataLoaders, Datasets, Learner, Tensor, Transform, nn, tensor
from cifar_hrf.lr_range import LRRangeTest

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

def fastai_loaders(ds): return DataLoaders.from_dsets(ds, ds, bs=16, num_workers=0, device='cpu')
def torch_loaders(ds): return DataLoaders(*[torch.utils.data.DataLoader(ds, 16, shuffle=True) for _ in range(2)])
@pytest.mark.parametrize('loaders', [fastai_loaders, torch_loaders])
@pytest.mark.parametrize('data', [tensor(x).as_subclass(NoCopy), x.view(NoCopyArray)], ids=['tensor','array'])
def test_data_in_memory_is_not_copied(data, loaders):
    dls = loaders(InMemory(data, y))
    learn = Learner(dls, nn.Linear(8, 2), CrossEntropyLossFlat())
    assert isinstance(learn.lr_range_test(n_iter=20), LRRangeTest)
    assert learn.dls is dls and learn.dls.train.dataset.x is data

def test_item_transforms_are_put_back():
    "They lie in the data set, and may count or draw"
    class Noise(Transform):
        def __init__(self): self.rng,self.seen = np.random.default_rng(0),0
        def encodes(self, o:Tensor): self.seen += 1; return o+self.rng.normal()
    noise = Noise()
    dls = DataLoaders.from_dsets(*[Datasets(range(96), [[lambda i: tensor(x[i]), noise], [lambda i: tensor(int(y[i]))]])]*2, bs=16, num_workers=0)
    learn = Learner(dls, nn.Linear(8, 2), CrossEntropyLossFlat())
    before = noise.seen,noise.rng.bit_generator.state
    learn.lr_range_test(n_iter=20)
    assert (noise.seen,noise.rng.bit_generator.state)==before and isinstance(noise.seen, int)
