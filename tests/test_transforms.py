"`p` is the probability of an image, not of a batch."
import pytest, torch
from fastai.vision.all import TensorImage
from cifar_hrf.transforms import CutOut, FlipLR, PadCrop

x = TensorImage(torch.rand(1000,3,12,12))

@pytest.mark.parametrize('t', [PadCrop(p=.3), FlipLR(p=.3), CutOut(4, p=.3)], ids=lambda t: t.name.split()[0])
def test_p_is_that_of_an_image(t):
    changed = (t(x, split_idx=0)!=x).flatten(1).any(1).float().mean()
    assert .24<changed<.36

@pytest.mark.parametrize('cls', [PadCrop,FlipLR,CutOut])
def test_p_at_its_ends_and_beyond(cls):
    assert (cls(p=0)(x, split_idx=0)==x).all()
    with pytest.raises(ValueError, match=f'{cls.__name__} p=1.5: needs a probability'): cls(p=1.5)
