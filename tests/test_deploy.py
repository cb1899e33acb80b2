"Prediction of any image, and files for other programs."
import csv, io, json, multiprocessing, os, struct, subprocess, sys, zlib
from types import SimpleNamespace
import numpy as np
import pytest
import torch
from PIL import Image
from fastai.learner import Learner, load_learner
from cifar_hrf.all import (InputError, cifar_dls, custom_resnet, data_path, hrf_learner, image_files, load_run, recipes,
                           resident, train)
from cifar_hrf import app
from cifar_hrf.cli import hrf_export, hrf_predict

long = pytest.mark.skipif(not os.getenv('STRESS'), reason='part of make stress')

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return load_run(train('digits', 'digits', out=tmp_path_factory.mktemp('runs'), epochs=2, width=4))

def save(folder, i, rng):
    "One of many kinds of image files"
    kind,(h,w) = i%10,((32,32) if i%3 else rng.integers(8, 90, 2))
    x = rng.integers(0, 256, (h,w,3), dtype=np.uint8)
    im,f = Image.fromarray(x),folder/f'{i:04d}.png'
    if kind==1: im = im.convert('L')
    if kind==2: im = im.convert('RGBA')
    if kind==3: im = im.convert('P')
    if kind==4: im,f = im.convert('CMYK'),f.with_suffix('.jpg')
    if kind==5: im = Image.fromarray(x[...,0].astype(np.uint16)*256)
    if kind==6: im = im.convert('1')
    if kind==7: im = im.convert('LA')
    if kind==8: f = f.with_suffix('.bmp')
    im.save(f)
    return f

def test_mixed_files(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    files = [save(tmp_path, i, rng) for i in range(200)]
    for o in files[::50]: o.write_bytes(o.read_bytes()[:40])
    with pytest.raises(SystemExit) as e: hrf_predict([str(run.path), str(tmp_path), '--format', 'csv', '--top', '1'])
    out,err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert e.value.code==1 and len(rows)==196
    assert err.count('not a readable image')==4 and '4 could not be read' in err and 'resized to 32×32' in err

def test_rotated_photo(run, tmp_path):
    x = np.zeros((32,32,3), np.uint8); x[:16] = 255
    exif = Image.Exif(); exif[0x112] = 6 # turn by 90 degrees to see it upright
    Image.fromarray(x).save(tmp_path/'plain.png'); Image.fromarray(np.rot90(x)).save(tmp_path/'turned.png', exif=exif)
    a,b = run.predict([tmp_path/'plain.png', tmp_path/'turned.png']).values
    assert np.allclose(a, b, atol=1e-5)

def test_bomb(run, tmp_path):
    header = b'IHDR'+struct.pack('>IIBBBBB', 30_000, 30_000, 1, 0, 0, 0, 0) # of a PNG with 900 million pixels
    (tmp_path/'bomb.png').write_bytes(b'\x89PNG\r\n\x1a\n'+struct.pack('>I', 13)+header+struct.pack('>I', zlib.crc32(header)))
    with pytest.raises(InputError, match='bomb.png: not a readable image'): run.predict(tmp_path/'bomb.png')

def test_forms_of_an_image(run):
    x = np.random.default_rng(0).integers(0, 256, (32,32,3), dtype=np.uint8)
    t = torch.from_numpy(x).permute(2, 0, 1)
    forms = x, np.flip(x[::-1], 0), x[None], t, t[None], t/255, Image.fromarray(x), [Image.fromarray(x)]
    first,*others = [run.predict(o).values for o in forms]
    for o in others: assert np.allclose(first, o, atol=1e-6)

@pytest.mark.parametrize('name', ['s003-asrun', *(pytest.param(o, marks=long) for o in ('lite','fast10','s004-asrun'))])
def test_export_of_recipes(name, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    small = dict(widths=(4,8,8)) if recipes[name].model=='lite_net' else dict(width=4)
    run = load_run(train(name, 'digits', out=tmp_path, epochs=1, bs=256, precision='fp32', **small))
    x = np.random.default_rng(0).integers(0, 256, (1000,3,32,32), dtype=np.uint8)
    p = onnxruntime.InferenceSession(run.export('onnx')).run(None, dict(images=x))[0]
    with torch.no_grad(): assert np.abs(p-run.predictor(torch.from_numpy(x)).numpy()).max()<1e-4

def test_export_without_this_package(run, tmp_path):
    f = run.export('torch', out=tmp_path)
    program = f'import sys, torch; m = torch.export.load({str(f)!r}).module(); print(m(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).sum().item(), "cifar_hrf" in sys.modules, "fastai" in sys.modules)'
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', program], capture_output=True, text=True)
    total,*ours = r.stdout.split()
    assert abs(float(total)-2)<1e-4 and ours==['False','False'], r.stderr

def test_bad_export(run, tmp_path, capsys):
    pytest.importorskip('onnxscript')
    for line,message in [('--opset 99', 'opset=99: not known to the exporter'), ('--dtype int8', 'dtype=int8')]:
        with pytest.raises(SystemExit) as e: hrf_export([str(run.path), '--out', str(tmp_path), *line.split()])
        assert e.value.code==2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

def test_without_onnx(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(SystemExit): hrf_export([str(run.path)])
    assert 'needs onnx: pip install cifar_hrf[onnx]' in capsys.readouterr().err

def test_run_without_weights_or_stats(run, tmp_path):
    for o in run.path.iterdir(): (tmp_path/o.name).write_bytes(o.read_bytes())
    env = json.loads((tmp_path/'env.json').read_text())
    (tmp_path/'model.safetensors').unlink()
    with pytest.raises(InputError, match='model.safetensors'): load_run(tmp_path).predict(torch.zeros(3, 32, 32))
    (tmp_path/'env.json').write_text(json.dumps({k: v for k,v in env.items() if k!='stats'}))
    with pytest.raises(InputError, match='has no stats'): load_run(tmp_path).predict(torch.zeros(3, 32, 32))

@pytest.mark.parametrize('make', [Learner, lambda *a,**k: Learner(*a, **k).fast(), hrf_learner], ids=['stock','fast','ours'])
def test_learner_export(make, tmp_path):
    learn = make(resident(cifar_dls('digits', bs=256)), custom_resnet(width=4))
    learn.path = tmp_path
    x = image_files(data_path('digits'), ['test'])[0]
    for trained in (False,True):
        with learn.no_bar(), learn.no_logging(): trained and learn.fit(1, .01)
        learn.export()
        new = load_learner(tmp_path/'export.pkl')
        with new.no_bar(), learn.no_bar(): assert torch.allclose(new.predict(x)[2], learn.predict(x)[2], atol=1e-5)

def test_app_downloads_no_examples(run, tmp_path, monkeypatch):
    monkeypatch.setattr(app, 'cifar10_found', lambda: False)
    monkeypatch.setattr(app, 'data_path', lambda o: pytest.fail(f'asks for {o}'))
    assert app._examples(SimpleNamespace(env=dict(run.env, data='cifar10')))==[]

def test_space_of_a_run_without_weights(run, tmp_path):
    for o in run.path.iterdir():
        if o.suffix!='.safetensors': (tmp_path/o.name).write_bytes(o.read_bytes())
    with pytest.raises(InputError, match='model.safetensors'): app.write_space(load_run(tmp_path), tmp_path/'space')
    (tmp_path/'file').write_text('')
    with pytest.raises(InputError, match='not empty'): app.write_space(run, tmp_path/'file')
    assert not (tmp_path/'space').exists()

def predict_into_a_closed_pipe(args, errors):
    read,write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    sys.stdout,sys.stderr = open(1, 'w'),open(errors, 'w')
    hrf_predict(args)

def test_pipe_that_closes_early(run, tmp_path):
    args = [str(run.path), str(data_path('digits')/'test')], tmp_path/'errors'
    p = multiprocessing.get_context('fork').Process(target=predict_into_a_closed_pipe, args=args)
    p.start(); p.join()
    assert p.exitcode==1 and 'Traceback' not in (tmp_path/'errors').read_text()
