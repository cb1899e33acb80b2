"""Kill runs at random moments, resume each, and compare it with a run that was never stopped: kill.py [RUNS [TABLE.csv]]

Half of the kills come at any time, a quarter while a checkpoint is written, a quarter in validation. Every third run is killed again after it was resumed.
The table gets a row after each run, and one that exists is continued."""
import json, multiprocessing, os, random, shutil, signal, sys, tempfile, threading, time
from pathlib import Path
import torch
from fastai.vision.all import Callback
from fastprogress.fastprogress import progress_bar
from safetensors.torch import load_file
from cifar_hrf.source import digits_path
from cifar_hrf.runs import load_run
from cifar_hrf.train import Checkpoint, resume_run, train
from cifar_hrf.zoo import recipes
from growing import grow

def die(): os.kill(os.getpid(), signal.SIGKILL)

class Kill(Callback):
    "Kill this process at a moment of `kind`"
    def __init__(self, kind, chance, duration): self.kind,self.chance,self.duration = kind,chance,duration
    def before_fit(self):
        if self.learn.lock.locked() or self.kind=='none': return # locked: this is an evaluation
        self.at,self.step = self.chance.randrange(1, self.n_epoch),self.chance.randrange(len(self.dls.valid))
        if self.kind=='any':
            threading.Thread(target=lambda: (time.sleep(self.chance.uniform(0, self.duration)), die()), daemon=True).start()
        if self.kind=='write': self.spoil(self.chance.choice(('bytes','bytes','sync','replace','after')))

    def before_batch(self):
        if self.kind=='validation' and not self.training and self.epoch>=self.at and self.iter==self.step: die()

    def spoil(self, where):
        "Die while the checkpoint of epoch `at` is written"
        write,sync,replace,writing = Path.write_bytes,os.fsync,os.replace,[None]
        def is_checkpoint(path): return str(path).endswith('checkpoint.pt') and self.learn.epoch>=self.at
        def write_part(path, data):
            writing[0] = path
            if where!='bytes' or not is_checkpoint(path): return write(path, data)
            with open(path, 'wb') as f:
                f.write(data[:self.chance.randrange(len(data))]); f.flush(); sync(f.fileno())
                die()
        def sync_not(fd):
            if where=='sync' and is_checkpoint(writing[0]): die()
            sync(fd)
        def replace_not(a, b):
            if where=='replace' and is_checkpoint(b): die()
            replace(a, b)
            if where=='after' and is_checkpoint(b): die()
        Path.write_bytes,os.fsync,os.replace = write_part,sync_not,replace_not

def child(kind, seed, duration, data, folder, recipe):
    torch.set_num_threads(1)
    Checkpoint.every = 0. # write one after every epoch
    sys.stdout = sys.stderr = open(data.parent/'said', 'w')
    kill = Kill(kind, random.Random(f'{kind} {seed} {recipe}'), duration)
    if recipe: train(recipe, data, 0, folder, device='cpu', cbs=kill)
    else: resume_run(folder, data, device='cpu', cbs=kill)

def killed(kind, seed, duration, data, folder, recipe=None):
    "Start a run with `recipe`, or resume the one in `folder`, and kill it at a moment of `kind`; True if it died"
    p = multiprocessing.get_context('fork').Process(target=child, args=(kind, seed, duration, data, folder, recipe))
    p.start(); p.join()
    if p.exitcode not in (0,-9): sys.exit(f"kill.py: {kind}, {seed}: failed before it was killed\n{(data.parent/'said').read_text()}")
    return p.exitcode==-9

def same(a, b):
    "True if two runs have the same weights, history and accuracies, bit for bit"
    x,y = [load_file(o/'model.safetensors') for o in (a,b)]
    if x.keys()!=y.keys() or not all(torch.equal(v, y[k]) for k,v in x.items()): return False
    a,b = map(load_run, (a,b))
    def rest(d): return {k: v for k,v in d.items() if 'seconds' not in k}
    return rest(a.summary)==rest(b.summary) and a.history.drop(columns='seconds').equals(b.history.drop(columns='seconds'))

def kill_runs(n, epochs=6, first=0):
    "Kill and resume runs `first` to `n`-1 of the digits; yields a row for each"
    recipe = recipes['digits'].replace(width=4, epochs=epochs, opt='muon', ema=.9, flip=.5, alternate=True, norm='ghost', dropout=.1,
                                       cutout=4, cutout_n=(1,3), tta='mirror')
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        data = shutil.copytree(digits_path(), tmp/'data') # under another name, so that they are flipped
        killed('none', 0, 0, data, tmp/'never', recipe)
        never, = (tmp/'never').iterdir()
        duration = load_run(never).summary['seconds']
        for i in progress_bar(range(first, n)):
            kind,again,out = ('write','any','validation','any')[i%4],i%3==2,tmp/f'{i}'
            for shorter in 1,2,4,8: # the run may end before its moment
                if killed(kind, f'{i} {shorter}', duration/shorter, data, out, recipe): break
            run = max(out.iterdir(), key=lambda o: o.stat().st_mtime)
            kept = torch.load(run/'checkpoint.pt', weights_only=True)['epochs'] if (run/'checkpoint.pt').exists() else 0
            def unfinished(): return json.loads((run/'summary.json').read_text())['status']!='complete'
            twice = again and unfinished() and killed('any', i, duration/4, data, run)
            if unfinished(): killed('none', 0, 0, data, run)
            yield dict(moment=kind, epochs_kept=kept, killed_again=twice, same=same(run, never))
            shutil.rmtree(out)

def main(n=24, table=None):
    df = grow(lambda first: kill_runs(int(n), first=first), table)
    print(df.groupby('moment').agg(runs=('same','size'), same=('same','sum'), killed_again=('killed_again','sum')))
    if not df.same.all(): sys.exit(f'kill.py: not the same: {[*df.index[~df.same]]}')

if __name__=='__main__': main(*sys.argv[1:])
