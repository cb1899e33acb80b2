"""Corrupt data sets, run folders and recipes at random: fuzz.py [CASES [SEED [TABLE.csv]]]

Each case must end in a correct run, or in one line and exit status 2. No file may be lost, and no code inside a file may run.
The table gets a row after each case, and one that exists is continued."""
import io, json, multiprocessing, os, pickle, random, re, shutil, struct, sys, tempfile, traceback, zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
import numpy as np
import torch
from fastai.vision.all import Callback
from fastprogress.fastprogress import progress_bar
from PIL import Image
from torchvision.datasets.utils import calculate_md5
import cifar_hrf.source as source
from cifar_hrf.recipe import Recipe, get_recipe
from cifar_hrf.cli import hrf_results, hrf_train, command
from cifar_hrf.source import CIFAR10_CLASSES
from cifar_hrf.runs import load_run
from cifar_hrf.train import Checkpoint, train
import cifar_hrf.zoo # fills `recipes`
from growing import grow

# Intact data sets and runs

def make_tree(path, n=6):
    for split,k in dict(train=n, test=n//2).items():
        for c in 'ab':
            for i in range(k):
                f = path/split/c/f'{i}.png'
                f.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.random.default_rng(i).integers(256, size=(16,16,3), dtype=np.uint8)).save(f)

def make_batches(path):
    path.mkdir(parents=True)
    for name in source._md5:
        d = dict(data=np.random.default_rng(0).integers(256, size=(10,3072), dtype=np.uint8), labels=list(range(10)))
        (path/name).write_bytes(pickle.dumps(dict(label_names=CIFAR10_CLASSES) if name=='batches.meta' else d, protocol=2))

def take_for_official(path):
    "In this process, the md5 sums of the files in `path` are the official ones"
    sums,batches = source._md5,source._Batches
    sums.update({o: calculate_md5(path/o) for o in sums})
    batches.train_list,batches.test_list = [[(o,sums[o]) for o in sums if o.startswith(k)] for k in ('data_','test_')]
    batches.meta = batches.meta|dict(md5=sums['batches.meta'])

small = 'width=4 bs=8 pad=2 cutout=4'.split()
class Stop(Callback):
    def before_batch(self):
        if self.epoch==1: raise KeyboardInterrupt

def make_runs(path):
    "A complete run, and one that was stopped in its second epoch"
    Checkpoint.every = 0.
    r = get_recipe('digits').replace(width=4, epochs=2)
    train(r, 'digits', out=path/'complete', device='cpu')
    try: train(r, 'digits', out=path/'stopped', device='cpu', cbs=Stop())
    except KeyboardInterrupt: pass

# Ways to corrupt: each takes a path and a `random.Random`, and returns what it did

class Evil:
    "A pickle that would leave a file"
    def __init__(self, marker): self.marker = str(marker)
    def __reduce__(self): return open, (self.marker,'w')

def cut(f, chance): b = f.read_bytes(); f.write_bytes(b[:chance.randrange(max(1, len(b)))]); return 'cut short'
def empty(f, chance): f.write_bytes(b''); return 'emptied'
def remove(f, chance): f.unlink(); return 'removed'
def flip(f, chance):
    b = bytearray(f.read_bytes())
    for _ in range(chance.choice((1,8,64))): b[chance.randrange(len(b))] ^= 1<<chance.randrange(8)
    f.write_bytes(bytes(b)); return 'bits flipped'
def noise(f, chance): f.write_bytes(chance.randbytes(chance.choice((1,100,5000)))); return 'noise'
def longer(f, chance): f.write_bytes(f.read_bytes()+chance.randbytes(100)); return 'noise behind it'
def folder(f, chance): f.unlink(); f.mkdir(); return 'a folder in its place'
def dangling(f, chance): f.unlink(); f.symlink_to('nowhere'); return 'a link to nowhere'
def loop(f, chance): f.unlink(); f.symlink_to(f.name); return 'a link to itself'
def evil(f, chance): f.write_bytes(pickle.dumps(dict(data=Evil(marker), labels=[0]))); return 'a pickle that runs code'
def evil_torch(f, chance): torch.save(dict(epochs=1, parts=Evil(marker)), f); return 'a PyTorch file that runs code'
anywhere = [cut, empty, remove, flip, noise, longer, folder, dangling, loop, evil, evil_torch]

odd_values = [None, True, -1, 0, 1, 3, 2**70, -.5, .5, 1e-300, 1e300, float('nan'), float('inf'), '', 'x', 'x'*10_000, '../../x', 'ä\n\0', [], [1,2], [[[]]], {}, {'a': 1}, "__import__('os').system('x')"]

def change(d, chance, keys=None): # some value of a JSON object, perhaps a nested one
    k = chance.choice(keys or list(d))
    how = chance.choice(('other','other','gone','deep'))
    if how=='gone': d.pop(k, None)
    elif how=='deep' and isinstance(d.get(k), dict) and d[k]: change(d[k], chance)
    else: d[k] = chance.choice(odd_values)
    return f'{k} {how}'
def change_json(f, chance):
    d = json.loads(f.read_text())
    how = change(d, chance)
    f.write_text(json.dumps(d)); return how
def other_json(f, chance): f.write_text(chance.choice(('[]','3','null','{}','"x"','['*3000,'{"name": "x"}'))); return 'other JSON'
def change_csv(f, chance):
    rows = [o.split(',') for o in f.read_text().splitlines()]
    r = chance.choice(rows)
    r[chance.randrange(len(r))] = chance.choice(('','x','nan','1e400','-1','"','0.5,0.5'))
    f.write_text('\n'.join(map(','.join, rows))); return 'a cell changed'
def change_checkpoint(f, chance):
    d = torch.load(f, weights_only=True)
    o = d
    while True: # descend to some part
        k = chance.choice(list(o))
        if isinstance(o[k], dict) and o[k] and chance.random()<.8: o = o[k]; continue
        how = chance.choice(('gone','other','shape'))
        if how=='gone': del o[k]
        elif how=='shape' and isinstance(o[k], torch.Tensor): o[k] = torch.zeros(3, 1)
        else: o[k] = chance.choice([v for v in odd_values if v!=''])
        torch.save(d, f)
        return f'{k} {how}'

def odd_image(f, chance):
    size,mode = chance.choice((((16,16),'L'),((16,16),'RGBA'),((16,16),'P'),((16,16),'I;16'),((16,16),'1'),((17,16),'RGB'),((1,1),'RGB'),((16,16),'CMYK'),((3000,2),'RGB')))
    im = Image.new(mode, size)
    b = io.BytesIO()
    try: im.save(b, 'PNG')
    except OSError: im.save(b, 'JPEG')
    f.write_bytes(b.getvalue()); return f'an image of mode {mode}, {size}'
def bomb(f, chance): # an image that claims to be huge
    b = bytearray(f.read_bytes())
    b[16:24] = struct.pack('>II', 60_000, 60_000)
    f.write_bytes(bytes(b)); return 'an image that claims 3.6 billion pixels'

def corrupt_tree(path, chance):
    files = sorted(o for o in path.rglob('*.png'))
    f = chance.choice(files)
    def no_class(): shutil.rmtree(f.parent); return 'a class removed'
    def no_split(): shutil.rmtree(f.parent.parent); return f'{f.parent.parent.name} removed'
    def no_image():
        for o in f.parent.iterdir(): o.unlink()
        return 'a class emptied'
    def other_class(): f.parent.rename(f.parent.parent/chance.choice(('c','a b','ü','-x',"'; rm"))); return 'a class renamed'
    def text(): (f.parent/'notes.txt').write_text('x'); (f.parent/'.hidden.png').write_text('x'); return 'other files beside images'
    def one(): [o.unlink() for o in files if o.parent==f.parent and o!=f]; return 'a class of one image'
    def stranger(): (path/'x').write_text('x'); (path/'train/x.png').write_bytes(f.read_bytes()); return 'files outside of classes'
    def all_alike():
        for o in files: Image.new('RGB', (16,16), 'red').save(o)
        return 'all images alike'
    how = chance.choice([no_class, no_split, no_image, other_class, text, one, stranger, all_alike] + 3*[lambda: chance.choice([odd_image, odd_image, bomb, *anywhere])(f, chance)])()
    return f'{f.relative_to(path)}: {how}'

def corrupt_batches(path, chance):
    f = chance.choice(sorted(path.iterdir()))
    def change_labels():
        d = pickle.loads(f.read_bytes())
        k = chance.choice([*d])
        d[k] = chance.choice([None, 3, [], [11]*10, ['a']*10, [0]*9, np.zeros((10,3072)), np.zeros((10,3071), np.uint8), np.zeros((9,3072), np.uint8), np.zeros(30720, np.uint8)])
        f.write_bytes(pickle.dumps(d, protocol=2)); return f'{k} replaced'
    def recursive(): d = {}; d['data'] = d; f.write_bytes(pickle.dumps(d)); return 'a dictionary in itself'
    return f'{f.name}: {chance.choice([change_labels, change_labels, recursive]+2*[lambda: chance.choice(anywhere)(f, chance)])()}'

def corrupt_run(path, chance):
    f = chance.choice(sorted(o for o in path.iterdir() if o.suffix in ('.json','.csv','.safetensors','.pt')))
    own = {'.json': [change_json]*6+[other_json], '.csv': [change_csv]*3, '.pt': [change_checkpoint]*6, '.safetensors': []}[f.suffix]
    return f'{f.name}: {chance.choice(own+anywhere)(f, chance)}'

def random_setting(chance):
    k = chance.choice([o for o in Recipe.model_fields if o not in ('name','about','group')]+['nope'])
    v = chance.choice([*map(str, odd_values), '(1,2,3)', '(.9,.9,.9)', '1e9', 'cos', 'linear', 'lite_net', 'grouped', 'muon', '2', '.01', '(', "[]*99**9", '9**9**9'])
    return f'{k}={v}'.replace('\0', '')

# One case, in a process of its own

def shot(path): return {str(o.relative_to(path)): o.read_bytes() if o.is_file() else None for o in sorted(path.rglob('*')) if '.part-' not in str(o)}

def load(path):
    with command(load): load_run(path).model

def run_case(tmp, i, seed, q):
    "Puts (area, what was done, exit status, lines on standard error, fault)"
    chance = random.Random(f'{seed} {i}')
    torch.set_num_threads(1)
    area = ('tree','run','batches','recipe','run','resume')[i%6]
    dest,out,what = tmp/f'case{i}',tmp/f'out{i}',''
    if area=='tree':
        shutil.copytree(tmp/'tree', dest)
        what = corrupt_tree(dest, chance)
        f = lambda: hrf_train(['--data',str(dest),'--recipe','digits','--epochs','1','--out',str(out),'--set',*small])
    elif area=='batches':
        os.environ['FASTAI_HOME'] = str(tmp/f'home{i}')
        take_for_official(tmp/'batches')
        shutil.copytree(tmp/'batches', dest)
        what = corrupt_batches(dest, chance)
        f = lambda: hrf_train(['--data',str(dest),'--recipe','digits','--epochs','1','--out',str(out),'--set',*small])
    elif area=='recipe':
        what = random_setting(chance)
        f = lambda: hrf_train(['--data',str(tmp/'tree'),'--recipe','digits','--out',str(out),'--set',*small,'epochs=1',what])
    else:
        shutil.copytree(tmp/('stopped' if area=='resume' else 'complete'), dest)
        run, = dest.iterdir()
        what = corrupt_run(run, chance)
        f = (lambda: hrf_train(['--resume',str(run)])) if area=='resume' else chance.choice((lambda: load(run), lambda: hrf_results([str(dest),"--out",str(out)])))
    before = shot(dest) if dest.exists() else {}
    o,e,code = io.StringIO(),io.StringIO(),0
    try:
        with redirect_stdout(o), redirect_stderr(e): f()
    except SystemExit as exc: code = exc.code
    except BaseException: code,e = 'traceback',io.StringIO(traceback.format_exc())
    lines,fault = e.getvalue().strip().splitlines(),''
    kept = shot(dest) if dest.exists() else {}
    lost = [k for k in before if k not in kept] if code==0 else [k for k,v in before.items() if kept.get(k)!=v]
    if code not in (0,1,2): fault = lines[-1] if lines else f'exit {code}'
    elif marker.exists(): fault = 'code of the data was run'
    elif code==2 and len(lines)!=1: fault = f'{len(lines)} lines: {lines[-1] if lines else ""}'
    elif code==0 and lines: fault = f'exit 0, but says {lines[0]}'
    elif code==1 and 'finite' not in e.getvalue(): fault = f'exit 1: {lines}'
    elif code!=0 and lost and area!='resume': fault = f'changed: {lost}'
    elif code==2 and [k for k in lost if not k.endswith('env.json')]: fault = f'changed: {lost}'
    elif code==2 and out.exists(): fault = 'left a folder'
    elif code==0 and area in ('tree','batches','recipe') and load_run(next(out.iterdir())).summary['status']!='complete': fault = 'exit 0 without a complete run'
    elif code==0 and area=='resume' and load_run(run).summary['status']!='complete': fault = 'exit 0 without a complete run'
    q.put((area, what, code, lines[-1] if lines else '', fault))

marker = None
def fuzz(n, seed=0, first=0):
    "Run cases `first` to `n`-1; yields a row for each, with an empty `fault` where the case went as it should"
    global marker
    context = multiprocessing.get_context('fork')
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        marker = tmp/'marker'
        make_tree(tmp/'tree'); make_batches(tmp/'batches')
        p = context.Process(target=make_runs, args=(tmp,))
        p.start(); p.join()
        for i in progress_bar(range(first, n)):
            q = context.SimpleQueue()
            p = context.Process(target=run_case, args=(tmp, i, seed, q))
            p.start(); p.join(120)
            late = p.is_alive()
            if late: p.kill(); p.join()
            row = q.get() if not q.empty() else ('?', f'case {i}', None, '', 'took over two minutes' if late else f'died: {p.exitcode}')
            row = dict(zip('area corruption status message fault'.split(), row))
            yield row|dict(message=row['message'].replace(str(tmp), 'tmp'))
            marker.unlink(missing_ok=True)
            for o in 'case','out','home': shutil.rmtree(tmp/f'{o}{i}', ignore_errors=True)

def faults(rows): return [f"case {i}: {o['area']}: {o['corruption']}: exit {o['status']}: {o['fault']}" for i,o in enumerate(rows) if o['fault']]

def main(n=300, seed=0, table=None):
    df = grow(lambda first: fuzz(int(n), seed, first), table)
    print(df.assign(right=df.fault=='').groupby(['area','status'], dropna=False).right.agg(['size','sum']))
    if bad := faults(df.to_dict('records')): sys.exit('\n'.join(bad))

if __name__=='__main__': main(*sys.argv[1:])
