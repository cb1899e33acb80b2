"Grad-CAM: cases that its page leaves out."
import pytest, torch, torch.nn.functional as F
from fastai.vision.all import ProgressCallback, nn, plt
from cifar_hrf.gradcam import *
from cifar_hrf.interpret import ImageInterpretation
from cifar_hrf.learner import hrf_learner
from cifar_hrf.loaders import cifar_dls
from cifar_hrf.resident import resident
from cifar_hrf.models import custom_resnet
from cifar_hrf.core import InputError

def network(pool):
    body = nn.Conv2d(3, 8, 3, padding=1),nn.BatchNorm2d(8),nn.ReLU(),nn.MaxPool2d(2)
    return nn.Sequential(*body, pool(1), nn.Flatten(), nn.Linear(8, 10))

x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

@pytest.mark.parametrize('pool', [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
def test_class_activation_map(pool):
    "Before one pooling and one linear layer, Grad-CAM is the class activation map: linear weights times channels"
    net = network(pool).eval()
    with torch.no_grad(): cam = torch.einsum('nchw,c->nhw', net[:4](x), net[-1].weight[3]).relu()[:,None]
    cam = F.interpolate(cam, 16, mode='bilinear')[:,0]
    torch.testing.assert_close(gradcam(net, x, classes=3), cam/cam.amax((1,2), keepdim=True), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(gradcam(net, x, classes=[3]*4), gradcam(net, x, classes=3))

def test_frozen_in_place_and_channels_last():
    net = network(nn.AdaptiveAvgPool2d)
    last,first = gradcam(net, x, classes=3),gradcam(net, x, '1', 3)
    assert net.training and all(o.grad is None and o.requires_grad for o in net.parameters())
    net.requires_grad_(False).to(memory_format=torch.channels_last)
    net[2].inplace = True
    images = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(gradcam(net, images, classes=3), last, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(gradcam(net, x, '1', 3), first, rtol=1e-3, atol=1e-4)
    assert not any(m._forward_hooks for m in net.modules())

def test_layer_of_another_network():
    net = network(nn.AdaptiveAvgPool2d)
    with pytest.raises(InputError, match='gives no map'): gradcam(net, x, nn.ReLU())
    assert net.training and not any(m._forward_hooks for m in net.modules())

def test_plot():
    dls = resident(cifar_dls('digits', bs=64, valid=.3, cutout=0))
    learn = hrf_learner(dls, custom_resnet(width=4), precision='fp32')
    learn.remove_cb(ProgressCallback)
    interp = ImageInterpretation.from_learner(learn)
    before = torch.get_rng_state()
    fig = interp.plot_gradcam(3, opacity=.4)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(fig.axes)==12 and fig.axes[1].images[1].get_alpha()==.4
    before = plt.get_fignums()
    with pytest.raises(InputError): interp.plot_gradcam(layer='layer33')
    assert plt.get_fignums()==before
    assert interp.plot_gradcam(df=interp.misclassified().head(0))._suptitle.get_text()=='no mistakes'
    plt.close('all')
