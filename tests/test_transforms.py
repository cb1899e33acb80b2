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

@pytest.mark.parametrize('t', [PadCrop(), FlipLR(1), CutOut()], ids=lambda t: t.name.split()[0])
def test_any_type_and_shape_of_batch(t):
    assert t(x[:0], split_idx=0).shape==(0,3,12,12)
    assert t(x[...,:8], split_idx=0).shape==(1000,3,12,8)
    for dtype in torch.float32,torch.bfloat16,torch.float64,torch.uint8: assert t(x.to(dtype), split_idx=0).dtype==dtype
    with pytest.raises(ValueError, match='needs a batch of images'): t(x[0], split_idx=0)

@pytest.mark.parametrize('bad', [True, 1.5, '4', None])
def test_bad_integers_are_refused(bad):
    with pytest.raises(ValueError, match='PadCrop pad='): PadCrop(bad)
    with pytest.raises(ValueError, match='CutOut n='): CutOut(n=bad)

def test_probability_is_shown_and_checked():
    assert "'p': 0.3" in repr(FlipLR(.3)) and "'p': 0.3" in repr(CutOut(p=.3))
    with pytest.raises(ValueError, match='FlipLR p=a'): FlipLR('a')

def test_alternate_moves_to_the_device_of_the_loader():
    "A checkpoint keeps the masks on the CPU"
    flip = FlipLR(alternate=True)
    flip.load_state_dict({3: torch.tensor([True,False,True])})
    with flip.epoch(3, 'meta'): assert flip.masks[3].device.type=='meta'

def test_an_epoch_that_stops_early_does_not_count():
    flip = FlipLR(alternate=True)
    flip.load_state_dict({3: torch.tensor([True,False,True])})
    with pytest.raises(KeyboardInterrupt):
        with flip.epoch(3, 'cpu'): raise KeyboardInterrupt
    assert flip.masks[3].tolist()==[True,False,True] and flip.batch is None
