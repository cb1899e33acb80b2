"Predictions and their figures: cases that the page on interpretation leaves out."
import math, numpy as np, pandas as pd, pytest, torch, torch.nn.functional as F
from fastai.vision.all import ProgressCallback, parent_label, plt
from cifar_hrf.interpret import *
from cifar_hrf.callbacks import TTA
from cifar_hrf.learner import hrf_learner
from cifar_hrf.loaders import cifar_dls
from cifar_hrf.resident import resident
from cifar_hrf.models import custom_resnet
from cifar_hrf.core import InputError

@pytest.fixture(scope='module')
def learn():
    torch.manual_seed(0)
    dls = resident(cifar_dls('digits', bs=64, valid=.3, cutout=0))
    learn = hrf_learner(dls, custom_resnet(width=4), precision='fp32')
    learn.remove_cb(ProgressCallback)
    return learn

@pytest.fixture(scope='module')
def interp(learn): return ImageInterpretation.from_learner(learn)

@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close('all')

def history(*valid_acc):
    epochs = range(len(valid_acc))
    return pd.DataFrame(dict(epoch=epochs, train_loss=1., train_acc=.5, valid_loss=1., valid_acc=valid_acc, lr=.1))

def test_history_without_clean_accuracy(): assert len(plot_curves(history(.1,.2)).axes[1].lines)==2

def test_runs_of_different_length():
    line, = plot_runs({'spec': [history(.2,.4,.6), history(.4,.6)]}).axes[1].lines
    np.testing.assert_allclose(line.get_ydata(), [.3,.5,.6])

def test_loaders_agree(learn, interp):
    "Files and memory, shuffled or not, give the same predictions in the order of the data set"
    dls = cifar_dls('digits', bs=100, valid=.3, cutout=0, num_workers=0)
    files = hrf_learner(dls, learn.model, precision='fp32')
    files.remove_cb(ProgressCallback)
    by_file = ImageInterpretation.from_learner(files)
    torch.testing.assert_close(by_file.preds, interp.preds)
    assert by_file.misclassified()['index'].tolist()==interp.misclassified()['index'].tolist()
    on_train = ImageInterpretation.from_learner(learn, dl=learn.dls.train)
    assert learn.dls.train.shuffle
    assert [learn.dls.vocab[o] for o in on_train.targs]==[parent_label(o) for o in learn.dls.train_ds.items]
    assert torch.equal(on_train.preds, ImageInterpretation.from_learner(learn, ds_idx=0).preds)

def test_predictions_and_losses(learn, interp):
    probs = interp.preds[range(len(interp.targs)),interp.targs]
    torch.testing.assert_close(interp.losses.cpu().as_subclass(torch.Tensor), -probs.log(), rtol=1e-3, atol=1e-4)
    views = ImageInterpretation.from_learner(learn, cbs=TTA('mirror'))
    torch.testing.assert_close(views.preds, torch.as_tensor(learn.get_preds(cbs=TTA('mirror'))[0]))

def test_fastai_methods(learn, interp, monkeypatch):
    "fastai's methods use the stored predictions; those that show images still work"
    with monkeypatch.context() as m:
        m.setattr(learn, 'get_preds', None)
        cm = interp.confusion_matrix()
        assert sum(o[2] for o in interp.most_confused())==cm.sum()-cm.trace()==len(interp.misclassified())
        interp.plot_confusion_matrix()
    interp.plot_top_losses(4)
    assert len(interp.top_losses(3, items=True)[2])==3

def test_random_state_stays(learn, interp):
    before = torch.get_rng_state()
    interp.plot_misclassified(5); interp.inputs([0,1]); ImageInterpretation.from_learner(learn, ds_idx=0)
    assert torch.equal(torch.get_rng_state(), before)

@pytest.mark.parametrize('bad', [lambda p: p.log(), lambda p: p*math.nan, lambda p: p[:,0], lambda p: p*2])
def test_no_probabilities(interp, bad):
    with pytest.raises(InputError, match='needs probabilities'): misclassified(bad(interp.preds), interp.targs)

def test_no_mistakes(interp):
    preds = F.one_hot(interp.targs, 10)*.5+.05
    fig = plot_misclassified(interp.dl, preds, interp.targs, n=4)
    assert fig._suptitle.get_text()=='0 of 432 wrong'
    assert not any(ax.images for ax in fig.axes)
    assert shared_errors([preds], interp.targs).shape==(0,6)

def test_reliability_by_definition(interp):
    rel,confidence,right = interp.reliability(10),interp.preds.max(1)[0],interp.preds.argmax(1)==interp.targs
    for i in range(10):
        here = (i/10<confidence) & (confidence<=(i+1)/10)
        assert here.any()==(i in rel.index)
        if here.any():
            assert rel.n[i]==here.sum()
            np.testing.assert_allclose(rel.accuracy[i], right[here].float().mean(), rtol=1e-5)
