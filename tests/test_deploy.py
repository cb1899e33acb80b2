"Prediction of any image, and files for other programs."
import csv, io, json, multiprocessing, os, re, shutil, struct, subprocess, sys, zlib
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pytest
import torch, yaml
from PIL import Image
from fastai.learner import Learner, load_learner
from packaging.version import Version
from cifar_hrf.runs import environment
from cifar_hrf.all import (InputError, cifar_dls, custom_resnet, data_path, hrf_learner, image_files, load_run,
                           recipes, resident, train)
from cifar_hrf import app
from cifar_hrf.cli import hrf_app, hrf_export, hrf_predict
from safetensors.torch import load_file, save_file

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
    assert err.count('not a readable image')==4 and '4 could not be read' in err and 'scaled and cut at the centre to 32×32' in err

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
    if Version(torch.__version__)>=Version('2.14'): # PyTorch 2.7 does not check it
        with pytest.raises(RuntimeError, match='dtype'): torch.export.load(f).module()(torch.zeros(2, 3, 32, 32))

@pytest.mark.parametrize('to,dtype', [('torch','uint8'),('onnx','float32')] + [('torch','float32'),('onnx','uint8')]*('STRESS' in os.environ))
def test_program_of_the_card(to, dtype, run, tmp_path):
    "It runs as it stands, and predicts what `Run.predict` does"
    if to=='onnx': pytest.importorskip('onnxruntime')
    f,rng = run.export(to, dtype, out=tmp_path),np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40,60,3), dtype=np.uint8)).save(tmp_path/'image.png')
    code = re.search('```python\n(.*)```', (tmp_path/'README.md').read_text(), re.S)[1]
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, capture_output=True, text=True)
    name,p = r.stdout.split()
    best = run.predict(tmp_path/'image.png').iloc[0]
    assert (name,r.stderr)==(best.idxmax(),'') and abs(float(p)-best.max())<1e-4
    assert run.export(to, dtype, out=tmp_path)==f # its own card may be replaced

def test_bad_export(run, tmp_path, capsys):
    pytest.importorskip('onnxscript')
    for line,message in [('--opset 99', 'opset=99: cannot be written; try a number from 16 to 25'), ('--opset 5', 'from 16 to 25'),
                         ('--dtype int8', 'dtype=int8')]:
        with pytest.raises(SystemExit) as e: hrf_export([str(run.path), '--out', str(tmp_path/'new'), *line.split()])
        assert e.value.code==2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize('opset', [16,25])
def test_opsets(opset, run, tmp_path):
    onnx = pytest.importorskip('onnx')
    assert onnx.load(run.export(opset=opset, out=tmp_path)).opset_import[0].version==opset

def test_export_beside_a_file_of_the_user(run, tmp_path, capsys):
    (tmp_path/'README.md').write_text('my own notes')
    with pytest.raises(SystemExit) as e: hrf_export([str(run.path), '--to', 'torch', '--out', str(tmp_path)])
    assert e.value.code==2 and 'README.md: is not a model card of this package' in capsys.readouterr().err
    assert [o.read_text() for o in tmp_path.iterdir()]==['my own notes']

def test_without_onnx(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(SystemExit): hrf_export([str(run.path)])
    assert 'needs onnx: pip install cifar_hrf[onnx]' in capsys.readouterr().err

def test_run_without_weights_or_stats(run, tmp_path):
    for o in run.path.iterdir(): (tmp_path/o.name).write_bytes(o.read_bytes())
    env = json.loads((tmp_path/'env.json').read_text())
    (tmp_path/'model.safetensors').unlink()
    with pytest.raises(InputError, match='has no weights$'): load_run(tmp_path).predict(torch.zeros(3, 32, 32))
    (tmp_path/'env.json').write_text(json.dumps({k: v for k,v in env.items() if k!='stats'}))
    with pytest.raises(InputError, match='has no stats'): load_run(tmp_path).predict(torch.zeros(3, 32, 32))

@pytest.mark.parametrize('f,options', [(hrf_predict,'image.png'), (hrf_export,''), (hrf_app,''), (hrf_app,'--space space')])
def test_weights_that_give_nan(f, options, run, tmp_path, monkeypatch, capsys):
    needs = dict(hrf_export='onnxscript', hrf_app='gradio').get(f.__name__)
    if needs and 'space' not in options: pytest.importorskip(needs)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.path, 'run')
    weights = load_file('run/model.safetensors')
    save_file({k: v*float('nan') if v.is_floating_point() else v for k,v in weights.items()}, 'run/model.safetensors')
    Image.new('RGB', (32,32)).save('image.png')
    with pytest.raises(SystemExit) as e: f(['run', *options.split()])
    out,err = capsys.readouterr()
    assert (e.value.code,out,err)==(2, '', f'{f.__name__}: run: the network gives NaN; train the run again\n')

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
    with pytest.raises(InputError, match='has no weights$'): app.write_space(load_run(tmp_path), tmp_path/'space')
    (tmp_path/'file').write_text('')
    with pytest.raises(InputError, match='not empty'): app.write_space(run, tmp_path/'file')
    assert not (tmp_path/'space').exists()

def test_space_header(run, tmp_path):
    "The version of Gradio is the one that we test with"
    header = yaml.safe_load((app.write_space(run, tmp_path/'space')/'README.md').read_text().split('---')[1])
    pinned = re.search('^gradio==(.*)', (Path(__file__).parents[1]/'constraints.txt').read_text(), re.M)[1]
    assert (header['title'],header['sdk_version'])==('digits classifier',pinned)
    commit = environment(torch.device('cpu'), 0)['commit']
    assert (tmp_path/'space/requirements.txt').read_text().strip().endswith(f'@{commit}' if commit else 'cifar_hrf')

def test_app_on_an_address_of_another_machine(run, capsys):
    pytest.importorskip('gradio')
    with pytest.raises(SystemExit) as e: hrf_app([str(run.path), '--host', '203.0.113.1'])
    assert e.value.code==2 and capsys.readouterr().err=='hrf_app: 203.0.113.1, port 7860 to 7959: cannot be used; try another\n'

@pytest.mark.parametrize('pixels,bad', [(None,True), (65,True), (50,False)])
def test_image_in_the_app(pixels, bad, tmp_path, monkeypatch):
    gr = pytest.importorskip('gradio')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', app._megapixels*10**6//2)
    (f := tmp_path/'image.jpg').write_bytes(b'no image')
    if pixels: Image.new('L', (10_000,pixels*100)).save(f)
    with gr.Blocks(): path = app._image_input(gr).preprocess(SimpleNamespace(path=str(f)))
    shown = app._errors_shown(gr, lambda im, more: (im.shape,more))
    if not bad:
        assert shown(path, 3)==((5000,10_000),3)
        return
    with pytest.raises(gr.Error) as e: shown(path, 3)
    assert e.value.message=='This file is not an image that can be read, or it has over 64 megapixels.' and not e.value.print_exception

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
