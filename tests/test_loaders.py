"Readers that fail, what is kept and read again, and who counts as CIFAR-10."
import os, weakref
import numpy as np, pytest, torch
from fastai.data.core import TfmdDL
from PIL import Image
from cifar_hrf import cli, loaders, recipe
from cifar_hrf.loaders import cifar_dls
from cifar_hrf.resident import clean_batches, resident
from cifar_hrf.source import CIFAR10_CLASSES, InputError, known_stats

def test_batches_are_released_while_reading(monkeypatch):
    "Workers' batches lie in shared memory, of which Docker has 64 MB"
    alive,most,usual = [],[],TfmdDL.__iter__
    def watched(self):
        for b in usual(self):
            alive.append(weakref.ref(b[0]))
            most.append(sum(o() is not None for o in alive))
            yield b
            del b
    monkeypatch.setattr(TfmdDL, '__iter__', watched)
    resident(cifar_dls('digits', num_workers=0), cache=False)
    assert len(alive)>=6 and max(most)<=2

@pytest.fixture
def failing_workers(monkeypatch):
    usual = TfmdDL.__iter__
    def fail(self):
        if self.fake_l.num_workers: raise RuntimeError('Too many open files (24)')
        return usual(self)
    monkeypatch.setattr(TfmdDL, '__iter__', fail)

def test_failing_workers_are_done_without(class_folders, failing_workers, capsys):
    dls = cifar_dls(class_folders(), bs=2, valid=2, num_workers=2)
    train = resident(dls, cache=False).train
    said = capsys.readouterr().out.splitlines()
    for i,(x,y) in enumerate(dls.train_ds):
        assert (train.images[i].permute(1,2,0).numpy()==np.asarray(x)).all() and train.labels[i]==y
    assert len(said)==2
    for o in said: assert 'Too many open files' in o and 'images were read without' in o and '--workers 0' in o

def test_image_at_fault_is_named_with_workers_too(class_folders, failing_workers, capsys):
    path = class_folders()
    Image.new('RGB', (1,1)).save(path/'train/b/3.png')
    with pytest.raises(InputError, match=r'3.png: is of size \(1, 1\), others of \(8, 8\)'):
        resident(cifar_dls(path, bs=4, valid=2, num_workers=2), cache=False)
    assert 'worker' not in capsys.readouterr().out

def change_unseen(f): # same name, size, time
    before = os.stat(f)
    im = Image.fromarray(255-np.asarray(Image.open(f)))
    im.save(f, compress_level=0)
    os.utime(f, ns=(before.st_atime_ns,before.st_mtime_ns))
    assert os.stat(f).st_size==before.st_size

@pytest.mark.parametrize('again', [dict(fresh=True), dict(cache=False)])
def test_read_again(class_folders, monkeypatch, tmp_path, again):
    monkeypatch.setattr(loaders, 'cache_path', lambda: tmp_path/'cache')
    path = class_folders(n=80, splits=['train'])
    for f in path.rglob('*.png'): Image.open(f).save(f, compress_level=0)
    def load(**kw):
        dls = resident(cifar_dls(path, bs=16, valid=8, num_workers=0, **kw), **kw)
        return dls.train.images,dls.train.after_batch.normalize.mean.flatten()
    images,mean = load()
    for f in path.rglob('?.png'): change_unseen(f)
    now = load(**again)
    assert (now[0]!=images).any() and (now[1]!=mean).any()
    if 'fresh' in again: assert (load()[0]==now[0]).all() and (load()[1]==now[1]).all() # kept

def test_cifar10_is_known_by_its_pixels(class_folders, monkeypatch, tmp_path):
    monkeypatch.setattr(loaders, 'cache_path', lambda: tmp_path/'cache')
    monkeypatch.setattr(loaders, 'image_stats', lambda files: [[.1]*3, [.2]*3])
    f = class_folders()/'train/a/0.png'
    assert loaders.train_stats({c: [f]*5000 for c in CIFAR10_CLASSES})==[[.1]*3, [.2]*3]

def test_clean_batches_of_a_longer_loader(class_folders):
    dls = cifar_dls(class_folders(), bs=4, valid=2, num_workers=0)
    for d in dls,resident(dls, cache=False):
        d.loaders[0] = d.train.new(n=100, get_idxs=lambda: [0]*100)
        assert sum(len(y) for _,y in clean_batches(d, 50))==len(d.train_ds)

@pytest.mark.parametrize('fill', [.5,(.1,.5,.9)])
def test_cutout_fill_is_a_pixel_value(class_folders, fill):
    dls = cifar_dls(class_folders(), bs=4, valid=2, cutout=8, cutout_fill=fill, stats='cifar10', num_workers=0)
    mean,sd = map(torch.tensor, known_stats['cifar10'])
    torch.testing.assert_close(dls.one_batch()[0][0,:,4,4].as_subclass(torch.Tensor), (torch.tensor(fill)-mean)/sd)

@pytest.mark.parametrize('command', [cli.hrf_train,cli.hrf_find])
def test_options_reach_the_loaders(command, monkeypatch, tmp_path):
    given = {}
    def stop(source, **kwargs):
        given.update(kwargs)
        raise InputError('seen enough')
    monkeypatch.setattr(recipe, 'cifar_dls', stop)
    with pytest.raises(SystemExit): command(f'--data digits --recipe digits --out {tmp_path} --workers 3 --fresh'.split())
    assert given['num_workers']==3 and given['fresh']
