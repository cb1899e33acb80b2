"Images as they are read, unusual trees, the official batches, names that are not UTF-8."
import hashlib, os, pickle, sys, tarfile
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from cifar_hrf.loaders import cifar_block, cifar_dls
from cifar_hrf.resident import resident
from cifar_hrf import source
from cifar_hrf.core import InputError
from cifar_hrf.source import CIFAR10_CLASSES, cifar_path, image_files, image_stats, tree_files

@pytest.fixture
def tree(tmp_path):
    "A function that saves the image `im` four times, in two classes, and returns the tree's path"
    def make(im, suffix='.png', **kwargs):
        for c in 'ab':
            (tmp_path/'train'/c).mkdir(parents=True)
            for i in range(2): im.save(tmp_path/'train'/c/f'{i}{suffix}', **kwargs)
        return tmp_path
    return make

def files_of(path): return [f for fs in tree_files(path)['train'].values() for f in fs]
def read(path): return np.asarray(cifar_block(valid=2, stats='cifar10').datasets(path).train[0][0])

ramp = np.arange(0, 65536, 16).astype(np.uint16).reshape(64,64)

@pytest.mark.parametrize('suffix', ['.png','.tif','.pgm'])
def test_16_bits_are_scaled(tree, suffix):
    path = tree(Image.fromarray(ramp), '.png' if suffix=='.pgm' else suffix)
    if suffix=='.pgm': # which older versions of Pillow read, but do not write
        for o in files_of(path): o.unlink(); o.with_suffix(suffix).write_bytes(b'P5 64 64 65535 '+ramp.astype('>u2').tobytes())
    for c in range(3): np.testing.assert_array_equal(read(path)[...,c], ramp//256)
    np.testing.assert_allclose(image_stats(files_of(path))[0], (ramp//256).mean()/255)

@pytest.mark.parametrize('dtype', [np.float32,np.int32])
def test_pixels_without_a_range_are_refused(tree, dtype):
    path = tree(Image.fromarray(np.linspace(0, 1, 64, dtype=dtype).reshape(8,8)), '.tif')
    for f in (lambda: read(path)), (lambda: image_stats(files_of(path))), (lambda: cifar_dls(path, bs=2, num_workers=0)):
        with pytest.raises(InputError, match=r'[ab]/[01].tif: .*no fixed range; save them with 8 or 16 bits'): f()

turned = {2: lambda x: x[:,::-1], 3: lambda x: x[::-1,::-1], 4: lambda x: x[::-1], 5: lambda x: x.transpose(1,0,2),
          6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).transpose(1,0,2), 8: lambda x: np.rot90(x)}

@pytest.mark.parametrize('orientation', turned)
def test_exif_orientation(tree, tmp_path, orientation):
    x = np.random.default_rng(0).integers(0, 256, (8,12,3), np.uint8)
    exif = Image.Exif()
    exif[0x112] = orientation
    path,upright = tree(Image.fromarray(x), exif=exif),turned[orientation](x)
    np.testing.assert_array_equal(read(path), upright)
    for _ in range(2): # read, then from the cache
        images = resident(cifar_dls(path, bs=2, valid=2, num_workers=0), cache=tmp_path/'cache').train.images
        np.testing.assert_array_equal(images[0].permute(1,2,0), upright)

def test_image_in_memory_is_read_like_a_file(tree):
    "As an app gives it to `predict`"
    path = tree(Image.fromarray(ramp))
    f = files_of(path)[0]
    x, = cifar_dls(path, bs=2, valid=2, num_workers=0).test_dl([f, f.read_bytes(), Image.open(f)]).one_batch()
    assert (x[0]==x[1]).all() and (x[0]==x[2]).all() and len(x[0].unique())==256

@pytest.mark.skipif(sys.platform!='linux', reason='other systems have no such names')
def test_names_that_are_not_utf8(class_folders, tmp_path):
    path = class_folders(splits=['train'])
    os.rename(path/'train/a/0.png', os.fsencode(path/'train/a')+b'/caf\xe9.png')
    first,second = [resident(cifar_dls(path, bs=2, valid=2, num_workers=0), cache=tmp_path/'cache') for _ in range(2)]
    assert (first.train.images==second.train.images).all() and len(first.train.images)==6

def test_listings_are_kept_until_a_folder_changes(class_folders):
    path = class_folders(n=2)
    for c in 'ab': os.utime(path/'train'/c, (1,1))
    first = tree_files(path)['train']
    assert tree_files(path)['train']['a'][0] is first['a'][0] # the same object: not listed again
    os.rename(path/'train/a/0.png', path/'train/a/2.png')
    assert [f.name for f in tree_files(path)['train']['a']]==['1.png','2.png']
    stat = os.stat(path/'train/a')
    os.rename(path/'train/a/2.png', path/'train/a/0.png') # so quickly that the time is the same
    os.utime(path/'train/a', ns=(stat.st_atime_ns,stat.st_mtime_ns))
    assert [f.name for f in tree_files(path)['train']['a']]==['0.png','1.png']

def test_images_below_a_class_are_left_out_aloud(class_folders, capsys):
    path = class_folders()
    (path/'train/a/more/deep').mkdir(parents=True)
    for f in 'a/more/0.png','a/more/deep/1.png','2.png': os.rename(path/'train/b'/Path(f).name, path/'train'/f)
    assert len(cifar_dls(path, bs=2, valid='test', num_workers=0).train_ds)==5
    said = capsys.readouterr().out
    assert said.count('\n')==1 and '3 images are left out' in said and str(path) in said

def test_images_one_folder_too_deep(class_folders):
    "As in Tiny ImageNet: train/<class>/images/, flat val/ and test/"
    path = class_folders(classes=['images'], splits=['train/a','train/b','val','test'])
    with pytest.raises(InputError, match='train/a: class without images; move images up') as e: tree_files(path)
    assert 'remove' not in str(e.value)
    for c in 'ab':
        for f in (path/f'train/{c}/images').iterdir(): os.rename(f, path/f'train/{c}'/f.name)
    with pytest.raises(InputError, match='test/images: no such class in train/; .*val') as e: tree_files(path)
    assert 'remove' not in str(e.value)
    os.rename(path/'test', path/'unlabelled')
    assert len(cifar_dls(path, bs=2, valid=2, num_workers=0).train_ds)==6
    with pytest.raises(InputError, match='no images in test/.*val/'): cifar_dls(path, bs=2, valid='test', num_workers=0)

def test_config_that_another_process_is_writing(tmp_path, monkeypatch):
    found = [None,tmp_path,tmp_path]
    monkeypatch.setattr(source, 'fastai_path', lambda o: found.pop(0))
    assert source._home('data')==tmp_path

@pytest.fixture
def batches(tmp_path, monkeypatch):
    "A folder of small batches, whose md5 sums count as official ones, and an empty home for the tree"
    folder = tmp_path/'batches'
    folder.mkdir()
    contents = {o: dict(data=np.random.default_rng(i).integers(0, 256, (20,3072), np.uint8), labels=[*range(10)]*2)
                for i,o in enumerate(source._md5) if o!='batches.meta'}
    for o,d in dict(contents, **{'batches.meta': dict(label_names=CIFAR10_CLASSES)}).items(): (folder/o).write_bytes(pickle.dumps(d))
    md5 = {o: hashlib.md5((folder/o).read_bytes()).hexdigest() for o in source._md5}
    files = [[o,md5[o]] for o in contents]
    for k,v in dict(train_list=files[:5], test_list=files[5:], meta=dict(source._Batches.meta, md5=md5['batches.meta'])).items():
        monkeypatch.setattr(source._Batches, k, v)
    monkeypatch.setattr(source, '_md5', md5)
    monkeypatch.setattr(source, '_home', lambda o: tmp_path/'home')
    return folder,contents

def test_official_batches_become_a_tree(batches, tmp_path):
    folder,contents = batches
    path = cifar_path(folder)
    files = tree_files(path)
    assert list(files['train'])==list(files['test'])==CIFAR10_CLASSES
    assert [f.name for f in files['train']['cat']]==sorted(f'{i}_cat.png' for i in range(3, 100, 10))
    for name,split,i in ('data_batch_2','train',23),('test_batch','test',3):
        x = contents[name]['data'][3].reshape(3,32,32).transpose(1,2,0)
        np.testing.assert_array_equal(np.asarray(Image.open(path/split/'cat'/f'{i}_cat.png')), x)
    assert len(image_files(path))==120 and cifar_path(str(folder))==path

@pytest.mark.parametrize('mode', ['gz',''])
def test_archive_of_the_official_batches(batches, tmp_path, mode):
    with tarfile.open(tmp_path/'c.tar.gz', f'w:{mode}') as t: t.add(batches[0], '../cifar-10-batches-py')
    assert len(image_files(cifar_path(tmp_path/'c.tar.gz')))==120
    (tmp_path/'cut.tar.gz').write_bytes((tmp_path/'c.tar.gz').read_bytes()[:20_000])
    with pytest.raises(InputError, match='cut.tar.gz: neither .* nor an intact'): cifar_path(tmp_path/'cut.tar.gz')

def test_changed_batches_are_refused_before_they_are_read(batches, tmp_path):
    class Evil:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'evil'),)
    folder,_ = batches
    cifar_path(folder)
    for content in pickle.dumps(Evil()), b'':
        (folder/'data_batch_4').write_bytes(content)
        with pytest.raises(InputError, match='data_batch_4 is not the official file .*get it again'): cifar_path(folder)
    (folder/'data_batch_4').unlink()
    with pytest.raises(InputError, match='data_batch_4 is not the official file'): cifar_path(folder)
    assert not (tmp_path/'evil').exists()

def test_link_to_itself_among_the_images(class_folders):
    f = class_folders()/'train/a/0.png'
    f.unlink(); f.symlink_to(f.name)
    with pytest.raises(InputError, match=r'0\.png: cannot be read \(Too many levels'): tree_files(f.parents[2])
