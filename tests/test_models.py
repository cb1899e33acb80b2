"Properties of the networks that no page needs to show."
import pytest, torch
import torch.nn.functional as F
from copy import deepcopy
from torch import nn, tensor
from torch.utils._python_dispatch import TorchDispatchMode
from cifar_hrf.models import lite_net
from cifar_hrf.receptive_field import receptive_field
from cifar_hrf.recipe import recipes
import cifar_hrf.writeups, cifar_hrf.zoo # they fill `recipes`

class Operations(TorchDispatchMode):
    "Notes the name of each operation, those of the backward pass included"
    def __init__(self): super().__init__(); self.names = set()
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))

# of those that `torch.use_deterministic_algorithms` lists as errors on a GPU, the ones that a network for images may have
nondeterministic = {f'aten::{o}' for o in ('adaptive_max_pool2d_backward', '_adaptive_avg_pool2d_backward', 'reflection_pad2d_backward',
                                           'upsample_bilinear2d_backward', 'grid_sampler_2d_backward', 'nll_loss2d_forward')}

nets = {str(model): (name,model) for name,r in recipes.items() # each once, and small
        for model in [r.replace(**dict(custom_resnet=dict(width=4), lite_net=dict(widths=(8,8,8))).get(r.model, {})).build_model(10, (32,32))]}

@pytest.mark.parametrize('model', [m for _,m in nets.values()], ids=[k for k,_ in nets.values()])
def test_training_step_can_be_deterministic(model):
    with Operations() as seen: F.cross_entropy(model(torch.randn(2, 3, 32, 32)), tensor([0,1])).backward()
    assert not seen.names&nondeterministic and any('convolution_backward' in o for o in seen.names)

def test_lite_net_pools_as_before():
    "The same keys, values and gradients as with PyTorch's module"
    ours = lite_net(widths=(8,8,8))
    theirs = nn.Sequential(*deepcopy(ours))
    theirs[5] = nn.AdaptiveMaxPool2d(1)
    assert not isinstance(ours[5], nn.AdaptiveMaxPool2d) and isinstance(ours[6], nn.Flatten)
    assert [*ours.state_dict()]==[*theirs.state_dict()]
    x = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    for dtype in torch.float32,torch.bfloat16: # where several pixels are often equal
        outs,grads = [],[]
        for m in ours,theirs:
            m.to(dtype, memory_format=torch.channels_last).zero_grad()
            outs.append(m(x.to(dtype)))
            outs[-1].sin().sum().backward()
            grads.append([p.grad for p in m.parameters()])
        assert torch.equal(*outs) and all(map(torch.equal, *grads))

def test_pool_of_lite_net_gives_ties_the_gradient_as_before():
    ours,theirs = lite_net(widths=(8,8,8))[5],nn.AdaptiveMaxPool2d(1)
    x = torch.randint(3, (4, 8, 3, 3)).float().requires_grad_() # nearly every largest pixel is there twice
    assert torch.equal(*[torch.autograd.grad(m(x).sum(), x)[0] for m in (ours,theirs)])

def test_receptive_field_of_lite_net_has_its_pool():
    rows = receptive_field(lite_net(widths=(8,8,8)))
    row = rows.set_index('name').loc['5']
    assert row.out==1 and row.rf==rows.rf.max()
