"`MuonSGD` against Muon as its source has it, written with singular values."
import pytest, torch
from torch import nn
from cifar_hrf.muon import MuonSGD

shapes = {'wide': (8,6,3,3), 'square': (8,2,2,2), 'tall': (24,3,2,2), 'tall 1×1': (64,27,1,1)}
layouts = dict(usual=torch.contiguous_format, last=torch.channels_last)

def muon_step(grad):
    "Singular values s of a filter bank's matrix -> s (a + b s² + c s⁴), three times; no other scale, whatever the shape"
    u,s,vt = torch.linalg.svd(grad.double().flatten(1), full_matrices=False)
    s = s/grad.double().norm()
    for _ in range(3): s = 3.4445*s - 4.775*s**3 + 2.0315*s**5
    return (u*s@vt).view(grad.shape)

def source(w, grads, lr, mom=.6):
    "Weights after a step with each of `grads`"
    w,buf = w.double(),0.
    for g in grads:
        buf = mom*buf + g.double()
        w = w*len(w)**.5/w.norm() - lr*muon_step(g+mom*buf)
    return w

def stepped(w, grads, lr=.5, layout=torch.contiguous_format, **kwargs):
    p = nn.Parameter(w.clone(memory_format=layout))
    opt = MuonSGD([p], lr=lr, muon_lr=1., **kwargs)
    for g in grads:
        p.grad = g.clone(memory_format=layout)
        opt.step()
    return p.detach()

@pytest.mark.parametrize('layout', layouts)
@pytest.mark.parametrize('shape', shapes)
def test_step_is_that_of_the_source(shape, layout):
    w,*grads = torch.randn(4, *shapes[shape])
    ours,theirs = stepped(w, grads, layout=layouts[layout]).double(),source(w, grads, .5)
    assert (ours-theirs).norm()<.01*theirs.norm() # bfloat16 has three digits

@pytest.mark.parametrize('shape', shapes)
def test_size_of_the_step(shape):
    w,g = torch.randn(2, *shapes[shape])
    w *= len(w)**.5/w.norm()
    step = (w-stepped(w, [g], lr=1.)).flatten(1)
    values = torch.linalg.svdvals(step)
    assert .3<values.min() and values.max()<1.3 # a tall filter's were up to 1.5 times larger
    assert abs(step.norm()/muon_step(g).norm()-1)<.01

def test_filters_of_one_shape_step_as_each_alone():
    ws,gs = torch.randn(2, 3, 8, 6, 3, 3)
    ps = [nn.Parameter(w.clone()) for w in ws]
    opt = MuonSGD(ps, lr=.5, muon_lr=1.)
    for p,g in zip(ps, gs): p.grad = g
    opt.step()
    for p,w,g in zip(ps, ws, gs): assert torch.allclose(p, stepped(w, [g]), atol=1e-3)

def test_groups_have_their_own_rate_and_momentum():
    ws,gs = torch.randn(2, 2, 8, 6, 3, 3)
    ps = [nn.Parameter(w.clone()) for w in ws]
    opt = MuonSGD([dict(params=[ps[0]], muon_lr=1.), dict(params=[ps[1]], lr=.1, muon_lr=2., muon_mom=0.)], lr=.5)
    for _ in range(2):
        for p,g in zip(ps, gs): p.grad = g.clone()
        opt.step()
    for p,w,g,kw in zip(ps, ws, gs, (dict(lr=.5), dict(lr=.2, mom=0.))):
        theirs = source(w, [g,g], **kw)
        assert (p.double()-theirs).norm()<.01*theirs.norm()

def test_checkpoint_goes_on_as_if_nothing_had_happened():
    w,*grads = torch.randn(4, 8, 6, 3, 3)
    p = nn.Parameter(w.clone())
    opt = MuonSGD([p], lr=.5, muon_lr=1.)
    for i,g in enumerate(grads):
        if i==1: # a new process
            state,p = opt.state_dict(),nn.Parameter(p.detach().clone())
            opt = MuonSGD([p], lr=.5, muon_lr=1.)
            opt.load_state_dict(state)
        p.grad = g.clone()
        opt.step()
    assert torch.equal(p, stepped(w, grads))

def test_a_gradient_of_zero_moves_nothing():
    w = torch.randn(8, 6, 3, 3)
    assert torch.allclose(stepped(w, [torch.zeros_like(w)]), w*8**.5/w.norm())

@pytest.mark.parametrize('overflow', [0.,1.])
def test_scaler_decides_whether_a_step_counts(overflow):
    w,g = torch.randn(2, 8, 6, 3, 3)
    p = nn.Parameter(w.clone())
    opt = MuonSGD([p], lr=.5, muon_lr=1., fused=True)
    opt.found_inf,opt.grad_scale = torch.tensor(overflow),torch.tensor(1024.)
    p.grad = g*1024 + (torch.inf if overflow else 0)
    opt.step()
    assert torch.equal(p, w) if overflow else torch.allclose(p, stepped(w, [g]), atol=1e-3)
    assert opt.state[p]['muon'].isfinite().all()

def test_needs_nothing_that_older_versions_lack(monkeypatch):
    "Muon came to PyTorch with version 2.9"
    import sys
    monkeypatch.setitem(sys.modules, 'torch.optim._muon', None)
    w,g = torch.randn(2, 8, 6, 3, 3)
    assert stepped(w, [g]).isfinite().all()
