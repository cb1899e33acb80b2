"What a learner does to the process that it lives in."
import json, sys, pytest, torch
from pathlib import Path
from torch import nn
import cifar_hrf.runs
from cifar_hrf.all import cifar_dls, hrf_learner, hrf_train, keep_memory, resident, train
from cifar_hrf.fast import tuned_convolutions

def rss(): return int(Path('/proc/self/statm').read_text().split()[1])*4096/2**20 # MB in memory

def kept_after_freeing(mb=256):
    "MB that stay with the process after `mb` of large tensors were freed"
    before = rss()
    xs = [torch.ones(2**20*16) for _ in range(mb//64)]
    del xs
    return rss()-before

@pytest.fixture
def stock_memory():
    keep_memory(False)
    yield
    keep_memory(False)

linux = pytest.mark.skipif(sys.platform!='linux', reason='glibc alone keeps memory')

@linux
def test_learner_leaves_memory_alone(stock_memory):
    learn = hrf_learner(resident(cifar_dls('digits', bs=64)), nn.Sequential(nn.Flatten(), nn.Linear(3*32*32, 10)))
    learn.fast()
    assert kept_after_freeing()<64

@linux
def test_commands_keep_memory(stock_memory, capsys):
    hrf_train(['--list'])
    assert kept_after_freeing(1024)>512 # some of it may go into memory that was free already

def test_convolutions_are_tuned_on_a_gpu_alone():
    def benchmark(device):
        with tuned_convolutions(torch.device(device)): return torch.backends.cudnn.benchmark
    assert (benchmark('cuda'), benchmark('cpu'), torch.backends.cudnn.benchmark)==(True,False,False)
    with pytest.raises(KeyError), tuned_convolutions(torch.device('cuda')): raise KeyError
    assert not torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    try: assert not benchmark('cuda') # timing may pick another kernel in the next run
    finally: torch.use_deterministic_algorithms(False)

def test_training_is_tuned_and_says_so(tmp_path, monkeypatch):
    seen = []
    def fitted(learn, recipe, history, *_):
        seen.append((torch.backends.cudnn.benchmark, json.loads((history.path.parent/'env.json').read_text())))
        raise KeyboardInterrupt
    monkeypatch.setattr(cifar_hrf.train, 'tuned_convolutions', lambda device: tuned_convolutions('cuda'))
    monkeypatch.setattr(cifar_hrf.train, '_fit', fitted)
    with pytest.raises(KeyboardInterrupt): train('digits', 'digits', out=tmp_path, width=2)
    (benchmark,env), = seen
    assert benchmark and env['cudnn_benchmark'] and not torch.backends.cudnn.benchmark
    assert (env['cudnn_tf32'], env['matmul_tf32'])==(True,False) # PyTorch's defaults

def test_environment_reads_tf32_however_it_was_set():
    def read(): return cifar_hrf.runs.environment(torch.device('cpu'), 0)['matmul_tf32']
    matmul = torch.backends.cuda.matmul
    try:
        matmul.allow_tf32 = True
        assert read()
        matmul.allow_tf32 = False
        assert not read()
        if hasattr(matmul, 'fp32_precision'): # since PyTorch 2.9; from then on `allow_tf32` raises
            matmul.fp32_precision = 'tf32'
            assert read()
    finally:
        if hasattr(matmul, 'fp32_precision'): matmul.fp32_precision = 'none'
        else: matmul.allow_tf32 = False
