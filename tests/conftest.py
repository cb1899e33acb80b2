"Shared by the tests: data, and small images in folders. None needs CIFAR-10 or the network."
import matplotlib, numpy as np, pytest, torch
from fastai.torch_core import default_device, set_seed
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

matplotlib.use('agg')
default_device(False) # for what is made once for a module too

@pytest.fixture(autouse=True)
def on_cpu():
    "Tests state a CPU's truth; those that need a GPU name it"
    default_device(False)
    set_seed(0)

@pytest.fixture(scope='session')
def imagined_gpu():
    "For tests on fake tensors of a GPU, which older versions of PyTorch compute only where there is one"
    try:
        with FakeTensorMode(), torch.device('cuda'): torch.nn.Linear(2, 2)
    except RuntimeError as e: pytest.skip(f'no imagined GPU: {str(e)[:60]}')

@pytest.fixture
def class_folders(tmp_path):
    "A function that writes a class-folder tree of random PNG files and returns its path"
    def make(name='images', classes=('a','b'), n=4, size=(8,8), splits=('train','test')):
        rng = np.random.default_rng(0)
        for split in splits:
            for c in classes:
                folder = tmp_path/name/split/c
                folder.mkdir(parents=True, exist_ok=True)
                for i in range(n): Image.fromarray(rng.integers(0, 256, (*size,3), np.uint8)).save(folder/f'{i}.png')
        return tmp_path/name
    return make
