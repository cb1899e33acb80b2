"Fields of networks that are easily got wrong, against the gradient."
import math, pytest, torch, torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from torch import Tensor, nn
from cifar_hrf.cli import hrf_rf
from cifar_hrf.effective_field import effective_field
from cifar_hrf.receptive_field import receptive_field, trace_fields

class Way(nn.Module):
    "A forward function with layers"
    def __init__(self, f, *layers): super().__init__(); self.f,self.layers = f,nn.ModuleList(layers)
    def forward(self, x): return self.f(x, *self.layers)

def conv(k=3, c=2, **kw): return nn.Conv2d(c, 2, k, padding=k//2, **kw)

def by_gradient(model, size):
    "Most rows and columns of the image that a unit depends on, among those in the middle row and column of the output"
    model.double().eval()
    for o in model.parameters(): o.data.uniform_(.5, 1) # nothing cancels out
    x = torch.rand(1, 2, *size, dtype=torch.double).requires_grad_()
    out = model(x)
    (h,w),sides = out.shape[-2:],[]
    for image in out:
        for i,j in {(i,w//2) for i in range(h)} | {(h//2,j) for j in range(w)}:
            mask = torch.autograd.grad(image[:,i,j].sum(), x, retain_graph=True)[0][0].sum(0)!=0
            sides.append([int((o := mask.any(d).nonzero()).max()-o.min())+1 for d in (1,0)])
    return tuple(max(o) for o in zip(*sides))

def last_row(model, size): return receptive_field(nn.Sequential(model, nn.Identity()), size, 2).iloc[-1]

def check(model, size=(24,24), jump=None):
    "The last row must say what the gradient says, and not be marked as inexact"
    row = last_row(model, size)
    assert (row.rf if isinstance(row.rf, tuple) else (row.rf,)*2)==by_gradient(model, size)
    assert not row.whole and not row.probed
    assert jump is None or row.jump==jump
    return row

# maps of a few units, enlarged

def repeated(x, a, b): # each unit twice along rows and columns
    x = a(x)
    n,c,h,w = x.shape
    return b(x[:,:,:,None,:,None].expand(n, c, h, 2, w, 2).reshape(n, c, 2*h, 2*w))

@pytest.mark.parametrize('units', [2,3,4,8])
@pytest.mark.parametrize('r', [2,3])
def test_shuffle_few_units(units, r):
    net = nn.Sequential(nn.Conv2d(2, 2*r*r, r, r), nn.PixelShuffle(r), conv())
    row = last_row(net, (units*r,)*2)
    assert (row.rf,row.jump,row.start,row.whole)==(2*r,1,0,False)

@pytest.mark.parametrize('units', [2,3,4])
def test_repeat_few_units(units):
    row = last_row(Way(repeated, nn.Conv2d(2, 2, 2, 2), conv()), (units*2,)*2)
    assert (row.rf,row.jump,row.whole)==(4,1,False)

def test_unshuffle():
    row = receptive_field(nn.Sequential(conv(), nn.PixelUnshuffle(2)), 24, 2).iloc[-1]
    assert (row.out,row.rf,row.jump,row.start)==(12,4,2,1)
    check(nn.Sequential(conv(), nn.PixelUnshuffle(2)), jump=2)
    check(nn.Sequential(conv(), nn.PixelUnshuffle(2), conv(c=8)), jump=2)

# branches whose units drift apart

def skip(corners, depth=2):
    "A skip beside a path that is made smaller and enlarged again"
    def up(): return nn.Upsample(scale_factor=2, mode='bilinear', align_corners=corners)
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first,self.last = conv(),conv(c=4)
            self.way = nn.Sequential(*[nn.Conv2d(2, 2, 2, 2) for _ in range(depth)], *[up() for _ in range(depth)])
        def forward(self, x): return self.last(torch.cat([x := self.first(x), self.way(x)], 1))
    return Net()

@pytest.mark.parametrize('depth', [1,2])
def test_skip_beside_aligned_corners(depth):
    check(skip(True, depth), (32,32), jump=1)
    check(skip(False, depth), (32,32), jump=1)

def test_fields_beside_aligned_corners():
    table = receptive_field(skip(True), 32, 2).set_index('name')
    assert (table.rf['way.3'],table.rf['cat'],table.rf['last'])==(14,14,14)

def test_skip_of_odd_size():
    def joined(x, a, b, c): return c(a(x)+F.interpolate(b(x), size=x.shape[-2:]))
    for size in ((25,25),(29,23)): check(Way(joined, conv(), conv(stride=2), conv()), size, jump=1)

# copies, moved or mirrored

def mirrored(x, a): return a(torch.cat((x, x.flip(-1))))
def crops(x, a): return a(torch.cat((x[...,:-3,:-3], x[...,3:,3:], x[...,2:-1,1:-2].flip(-2))))
def apart(x, a, b): return b(torch.stack((x, x.flip(-1), x.flip(-2))).flatten(0, 1)+torch.cat((a(x),)*3).relu())
def tokens(x, a): # channels last, as in ConvNeXt
    y = torch.cat((x, x.flip(-2))).permute(0, 2, 3, 1)
    return a(F.linear(F.layer_norm(y, (2,)), torch.ones(2, 2, dtype=y.dtype)).permute(0, 3, 1, 2))
def back(x, a): y,z = a(torch.cat((x, x.flip(-1)))).chunk(2); return y+z.flip(-1)

@pytest.mark.parametrize('f', [mirrored,crops,tokens,back])
def test_copies_in_the_batch(f):
    "The images of a batch share a field, which is too large here, and marked"
    row = last_row(Way(f, conv()), (24,24))
    assert row.whole and max(row.rf)>=24

def test_copies_mixed():
    "What sees an image and its mirror sees the whole of it, or the table says so"
    def added(x, a): y,z = a(torch.cat((x, x.flip(-1)))).chunk(2); return y+z
    def mean(x, a): return a(torch.cat((x, x.flip(-1)))).mean(0, keepdim=True)
    def channels(x, a): return a(torch.cat((x, x.flip(-1)), 1).view(2, 2, *x.shape[2:])).view(1, 4, *x.shape[2:])
    for f in (added,mean,channels):
        row = last_row(Way(f, conv()), (24,24))
        assert row.whole and row.rf[1]>=24
        assert by_gradient(Way(f, conv()), (24,24))==(3,24)
    row = last_row(Way(apart, conv(), conv()), (24,24))
    assert row.whole and row.rf>=24
    assert by_gradient(Way(apart, conv(), conv()), (24,24))==(24,24)

def test_mirror():
    def way(x, a, b): return b(a(x).flip(-1)).flip(-1)
    row = check(Way(way, conv(), conv()), jump=1)
    assert (row.rf,row.start)==(5,.5)
    row = check(Way(lambda x, a: a(x.flip(-1)), conv()))
    assert (row.jump,row.start)==((1,-1),(.5,23.5))

def test_batch_written_to():
    def way(x, a): y = torch.cat((x, x.flip(-1))); y.add_(y.flip(-1)); return a(y)
    row = last_row(Way(way, conv()), (24,24))
    assert row.whole and row.rf[1]>=24

# windows cut out

def patches(x, **kw):
    n,c,h,w = x.shape
    return F.unfold(x, 3, padding=1, **kw).view(n, c, 9, h, w).sum(2)

def test_unfold():
    "No rule for windows: they count as mixed"
    for way in (lambda x, a: patches(a(x)), lambda x, a: a(x.unfold(2, 3, 1).sum(-1))):
        row = last_row(Way(way, conv()), (24,24))
        assert row.whole and row.rf>=24

# numbers and indices of other kinds

def test_numbers_as_tensors():
    for d in (torch.tensor([1]), torch.tensor(1)):
        assert check(Way(lambda x, a: a(F.pad(x, [d,d,d,d])), nn.Conv2d(2, 2, 3))).rf==3

def test_kernel_size_as_a_tensor():
    try: F.avg_pool2d(torch.zeros(1, 2, 4, 4), torch.tensor(2))
    except RuntimeError: pytest.skip('this PyTorch refuses it')
    assert check(Way(lambda x: F.avg_pool2d(x, torch.tensor(2)))).rf==2

class Elsewhere(Tensor):
    "A tensor of indices as on a GPU: tensors on the CPU cannot be indexed by it, unless it is copied there"
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        plain = [o.as_subclass(Tensor) if isinstance(o, Elsewhere) else o for o in args]
        if func is Tensor.cpu: return plain[0]
        if func is Tensor.__getitem__ and not args[0].is_floating_point(): raise RuntimeError('indices on another device')
        if func is Tensor.__getitem__: plain[1] = tuple(o.as_subclass(Tensor) if isinstance(o, Elsewhere) else o for o in args[1])
        return func(*plain)

def test_index_on_another_device():
    for index in (torch.tensor([1,0]), torch.tensor([True,False])):
        index = index.as_subclass(Elsewhere)
        row = check(Way(lambda x, a: a(x)[:,index], conv()))
        assert (row.rf,row.out)==(3,24)

def test_mask():
    "An index by bools takes the units that they say"
    keep = torch.arange(24)%2==0
    row = check(Way(lambda x, a: a(x[:,:,keep]), conv()), jump=(2,1))
    assert row.rf==(5,3)

def test_double_only_on_the_cpu(monkeypatch):
    "A Mac's GPU has no float64"
    def cpu(x): y = x.clone(); y.on_cpu = True; return y
    double = Tensor.double
    def to_double(x): assert getattr(x, 'on_cpu', False), 'no float64 on this device'; return double(x)
    monkeypatch.setattr(Tensor, 'cpu', cpu)
    monkeypatch.setattr(Tensor, 'double', to_double)
    assert effective_field(conv(), 8, channels=2).side(1.)==3

# what is printed

def test_printed_paths(tmp_path, capsys):
    (tmp_path/'net.py').write_text('''
from torch import nn
from fastai.layers import SequentialEx, MergeLayer
def skips(n, size, pad): return nn.Sequential(*[
    SequentialEx(nn.Conv2d(1, 1, size, padding=pad(2**k), dilation=2**k), MergeLayer()) for k in range(n)])
def many(): return skips(12, 3, lambda d: d)
def wide(): return skips(5, (1,3), lambda d: (0,d))
''')
    def printed(name):
        hrf_rf(['--model',f'{tmp_path}/net.py:{name}','--size','32','--channels','1','--out',str(tmp_path/name)])
        table, = (tmp_path/name).glob('*.csv')
        return capsys.readouterr().out,table.read_text()
    assert '4096 of them' in printed('many')[0]
    assert '(1,) x 32 of them' in printed('wide')[0]

def test_rounded_size():
    "Upsampling by 1.5 makes 7 of 5, and places units by 1.5, not by 7/5"
    for mode in ('bilinear','nearest'):
        box = effective_field(nn.Sequential(nn.Upsample(scale_factor=1.5, mode=mode), nn.Identity()), (5,5), '1', (3,3), 2)
        rows = box.map.any(1).nonzero()[0]
        assert (box.box[0],box.box[2])==(rows[0],len(rows))
    check(nn.Sequential(conv(), nn.Upsample(scale_factor=1.5), conv()), (25,25))

def test_aligned_corners_of_one_unit():
    up = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)
    assert effective_field(nn.Sequential(nn.Conv2d(2, 2, 4, 4), up), (4,8), '1', (1,2), 2).box[::2]==(0,4)

# never too small

def part(x, a): y = x*1; y[:,:1].add_(a(x)[:,:1]); return y
def copied(x, a): y = torch.zeros_like(x); y[:,:1].copy_(a(x)[:,:1]); y[:,1:] = x[:,1:]; return y
def gate(x, a): return x*a(x.mean((2,3), keepdim=True))
def attention(x, a): q = a(x).flatten(2).transpose(1, 2); return (torch.softmax(q@q.mT, -1)@q).mT.reshape(x.shape)
def class_token(x, a):
    t = torch.cat([torch.ones(1, 1, 2, dtype=x.dtype), a(x).flatten(2).mT], 1)
    return (t+1)[:,1:].mT.reshape(x.shape)
odd = [part, copied, gate, attention, class_token, lambda x,a: a(x)+torch.rot90(x, 2, (2,3)), lambda x,a: torch.rot90(a(x), 1, (2,3)),
       lambda x,a: a(x).transpose(2, 3), lambda x,a: x*x.mean(3, keepdim=True)+a(x), lambda x,a: a(x).cumsum(2), lambda x,a: a(x.roll(3, 2)),
       lambda x,a: torch.cat([x[:,:,:2],a(x)], 2)[:,:,2:], lambda x,a: F.lp_pool2d(a(x), 1, 2), lambda x,a: torch.special.i0(a(x)),
       lambda x,a: a(x)[:,:,torch.randperm(x.shape[2], generator=torch.Generator().manual_seed(0))],
       lambda x,a: torch.einsum('nchw,hk->nckw', a(x), torch.ones(x.shape[2], 9, dtype=x.dtype).tril()),
       lambda x,a: F.interpolate(a(x), scale_factor=.75, mode='bilinear', antialias=True), lambda x,a: a(x)+x.amax((2,3))[:,:,None,None],
       lambda x,a: (x*x.mean(3, True)*x.mean(2, True)).flatten(2).view_as(x), lambda x,a: x+F.interpolate(F.avg_pool2d(a(x), 2), size=x.shape[2:])]

@pytest.mark.parametrize('after', [conv(),nn.Identity()])
@pytest.mark.parametrize('f', odd)
def test_never_too_small(f, after):
    net = nn.Sequential(conv(), Way(f, conv()), after, nn.Identity()).double()
    for o in net.parameters(): o.data.uniform_(.5, 1)
    tracer = trace_fields(net, torch.rand(1, 2, 14, 15, dtype=torch.double), keep='3')
    (seen,out),size = tracer.kept,(14,15)
    h,w = out.shape[-2:]
    if seen.size!=(h,w): assert seen.whole; return # mixed, and of another size
    for unit in [(i,w//2) for i in range(h)]+[(h//2,j) for j in range(w)]:
        mask = torch.autograd.grad(out[(...,*unit)].sum(), tracer.image, retain_graph=True)[0][0].sum(0)!=0
        for k,i in enumerate(unit):
            (first,last),pixels = [o[i] for o in seen.spans(k, size)],mask.any(1-k).nonzero()
            assert first<=pixels.min() and pixels.max()<=last

# random networks

class Branches(nn.Module):
    "Several ways from one map, joined"
    def __init__(self, how, *ways): super().__init__(); self.how,self.ways = how,nn.ModuleList(ways)
    def forward(self, x):
        ys = [o(x) for o in self.ways]
        h,w = [min(o.shape[d] for o in ys) for d in (2,3)]
        ys = [o[...,:h,:w] for o in ys]
        return sum(ys) if self.how=='sum' else math.prod(ys) if self.how=='product' else torch.cat(ys, 1).unflatten(1, (-1,2)).sum(1)

@st.composite
def convs(draw, stride=True):
    k,d,s = [tuple(draw(st.integers(1, n)) for _ in range(2)) for n in (4, 2, 2 if stride else 1)]
    p = tuple(draw(st.integers(0, d[i]*(k[i]-1)//2)) for i in range(2))
    return nn.Conv2d(2, 2, k, s, p, d, groups=draw(st.sampled_from([1,2])))

pools = st.integers(2, 3).flatmap(lambda k: st.builds(nn.AvgPool2d, st.just(k), st.integers(1, 2), st.integers(0, k//2)))
ways = st.lists(convs(stride=False), max_size=2).map(lambda o: nn.Sequential(*o))
branches = st.builds(lambda how, ways: Branches(how, *ways), st.sampled_from(['sum','product','cat']), st.lists(ways, min_size=2, max_size=3))
nets = st.lists(st.one_of(convs(), pools, branches), min_size=1, max_size=4).map(lambda o: nn.Sequential(*o, nn.Identity()))

@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(nets)
def test_random_networks(net):
    "A unit that no border is near sees exactly what the table says"
    net.double()
    for o in net.parameters(): o.data.uniform_(.5, 1)
    tracer = trace_fields(net, torch.rand(1, 2, 90, 90, dtype=torch.double), keep=str(len(net)-1))
    seen,out = tracer.kept
    unit = [n//2 for n in out.shape[-2:]]
    spans = [tuple(int(o[i]) for o in seen.spans(k, (90,90))) for k,i in enumerate(unit)]
    assume(all(first>=0 and last<90 for first,last in spans))
    mask = torch.autograd.grad(out[(...,*unit)].sum(), tracer.image)[0][0].sum(0)!=0
    assert [tuple(mask.any(d).nonzero().flatten()[[0,-1]].tolist()) for d in (1,0)]==spans
