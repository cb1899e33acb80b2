"The resident loader's fast path, readers that fail, what is kept and read again, and who counts as CIFAR-10."
import functools, os, weakref
import numpy as np, pytest, torch
from fastai.vision.all import (
    DataBlock, DataLoaders, ImageBlock, IntToFloatTensor, MultiCategoryBlock, Normalize, Pipeline, RandomSplitter,
    TensorCategory, TensorImage, TensorMask, TfmdDL, Transform, get_image_files, parent_label)
from PIL import Image
from cifar_hrf import cli, loaders, recipe, resident as resident_module
from cifar_hrf.loaders import cifar_dls
from cifar_hrf.resident import clean_batches, resident
from cifar_hrf.source import CIFAR10_CLASSES, InputError, known_stats
from cifar_hrf.transforms import CutOut, FlipLR, NormalizeImage, PadCrop

class Darker(Transform):
    "One that the resident loader does not know"
    order = 50
    def encodes(self, x:TensorImage): return x*.5

norm = Normalize.from_stats(*known_stats['cifar10'], cuda=False)

@pytest.mark.parametrize('tfms', [
    [], [norm], [IntToFloatTensor(div=127.), norm],
    [PadCrop(), FlipLR(), IntToFloatTensor(), norm, CutOut(4, n=(1,3), p=.5)],
    [PadCrop(mode='constant'), FlipLR(order=101), IntToFloatTensor(), norm, CutOut(4, fill='image')],
    [PadCrop(2, 'edge', p=.5), CutOut(9)],
    [CutOut(4, fill=(1,2,3), order=4), PadCrop(2, 'edge')],
    [FlipLR(), IntToFloatTensor(), NormalizeImage()],
    [PadCrop(), FlipLR(), IntToFloatTensor(), Darker(), norm, CutOut(4)],
], ids=lambda o: '-'.join(type(t).__name__ for t in o))
@pytest.mark.parametrize('masks', [False,True])
def test_fast_path_equals_the_pipeline(tfms, masks):
    "To the last bit, type and dtype, in training and validation, and leaves the images as they were"
    images = TensorImage(torch.randint(0, 255, (50,3,16,16), dtype=torch.uint8))
    labels = TensorCategory(torch.arange(50))
    if masks: labels = TensorMask(torch.randint(0, 255, (50,16,16), dtype=torch.uint8))
    dls = DataLoaders.from_dsets([*zip(images, labels)], [*zip(images, labels)], bs=16, num_workers=0, after_batch=tfms)
    before,train = images.clone(),resident(dls).train
    for split_idx in 0,1:
        train.dataset = type('Items', (list,), dict(split_idx=split_idx))(train.dataset)
        torch.manual_seed(0)
        ours = list(train.new(train.dataset, shuffle=False, drop_last=False))
        torch.manual_seed(0)
        torch.empty((), dtype=torch.int64).random_()
        pipe = Pipeline(tfms, split_idx=split_idx)
        for (x1,y1),i in zip(ours, torch.arange(50).split(16), strict=True):
            x2,y2 = pipe((images[i],labels[i]))
            assert torch.equal(x1, x2) and torch.equal(y1, y2)
            assert [(type(o),o.dtype) for o in (x1,y1)]==[(type(o),o.dtype) for o in (x2,y2)]
    assert torch.equal(images, before)

def test_other_data_is_read_by_as_many_workers(class_folders):
    dls = resident(cifar_dls(class_folders(), bs=2, valid=2, num_workers=2), cache=False)
    assert dls.new_empty().train.fake_l.num_workers==2

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
    for o in said: assert 'Too many open files' in o and 'images are read without' in o and '--workers 0' in o

def test_image_at_fault_is_named_with_workers_too(class_folders, failing_workers, capsys):
    path = class_folders()
    Image.new('RGB', (1,1)).save(path/'train/b/3.png')
    with pytest.raises(InputError, match=r'3.png: has shape \(3, 1, 1\), others \(3, 8, 8\)'):
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
    for o in loaders,resident_module: monkeypatch.setattr(o, 'cache_path', lambda: tmp_path/'cache')
    path = class_folders(n=80, splits=['train'])
    for f in path.rglob('*.png'): Image.open(f).save(f, compress_level=0)
    def load(**kw):
        dls = resident(cifar_dls(path, bs=16, valid=8, num_workers=0, fresh='fresh' in kw), **kw)
        return dls.train.images,dls.train.after_batch.normalize.mean.flatten()
    images,mean = load()
    for f in path.rglob('?.png'): change_unseen(f)
    now = load(**again)
    assert (now[0]!=images).any()
    if 'fresh' in again: assert (now[1]!=mean).any() and (load()[0]==now[0]).all() and (load()[1]==now[1]).all() # kept

def test_changed_file_is_read_again(class_folders, tmp_path):
    def load(): return resident(cifar_dls(path, bs=4, valid=2, num_workers=0), cache=tmp_path/'cache').train
    path = class_folders(n=40, splits=['train'])
    before = load()
    Image.new('RGB', (8,8)).save(before.dataset.items[1]) # one that is not compared at each start
    after = load()
    assert before.images[1].sum()>0 and after.images[1].sum()==0
    assert torch.equal(before.images[2:], after.images[2:])

def test_several_labels_for_an_image(class_folders, tmp_path):
    block = DataBlock((ImageBlock,MultiCategoryBlock), get_items=get_image_files, splitter=RandomSplitter(seed=0),
                      get_y=lambda f: [parent_label(f), f.stem])
    dls = block.dataloaders(class_folders(), bs=4, num_workers=0)
    first,second = [resident(dls, cache=tmp_path/'cache').train for _ in range(2)]
    assert first.labels.shape[1]==6
    assert torch.equal(first.labels, second.labels) and torch.equal(first.images, second.images)

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
    @functools.wraps(recipe.cifar_dls) # its signature says which fields it takes
    def stop(source, **kwargs):
        given.update(kwargs)
        raise InputError('seen enough')
    monkeypatch.setattr(recipe, 'cifar_dls', stop)
    with pytest.raises(SystemExit): command(f'--data digits --recipe digits --out {tmp_path} --workers 3 --fresh'.split())
    assert given['num_workers']==3 and given['fresh']

def test_training_goes_on_where_the_cache_cannot_be_written(class_folders, tmp_path, capsys):
    (tmp_path/'file').touch()
    dls = resident(cifar_dls(class_folders(), bs=2, valid='test', pad=1, cutout=0, num_workers=0), cache=tmp_path/'file')
    assert len(dls.train.images) and 'cannot be written' in capsys.readouterr().out
