"""Kill runs at random moments, go on with each, and compare it with the run that nobody stopped: kill.py [TABLE.csv [RUNS]]
Half of the moments are any time, a quarter within the writing of a checkpoint, a quarter in validation; every third run is killed once more while it goes on."""
import json, shutil, subprocess, sys, tempfile
from pathlib import Path
import pandas as pd
import torch
from fastprogress.fastprogress import progress_bar
from safetensors.torch import load_file
from cifar_hrf.zoo import recipes
from cifar_hrf.source import digits_path
from cifar_hrf.runs import environment, load_run

child = """
import os, random, signal, sys, threading, time
from cifar_hrf.all import *
import cifar_hrf.core as source, cifar_hrf.train as this
kind,seed,duration,data,folder,recipe = sys.argv[1:]
chance = random.Random(f'{seed} {recipe}')
this.Checkpoint.every = 0. # one at each epoch's end
def die(): os.kill(os.getpid(), signal.SIGKILL)

class Kill(Callback):
    def before_fit(self):
        if self.learn.lock.locked() or kind=='none': return # locked: an evaluation
        self.at,self.step = chance.randrange(1, self.n_epoch),chance.randrange(len(self.dls.valid))
        if kind=='any': threading.Thread(target=lambda: (time.sleep(chance.uniform(0, float(duration))), die()), daemon=True).start()
        if kind=='write': self.spoil(chance.choice(('bytes','bytes','sync','replace','after')))
    def before_batch(self):
        if kind=='validation' and not self.training and self.epoch>=self.at and self.iter==self.step: die()

    def spoil(self, where): # the write of the checkpoint of epoch `at` ends there
        write,sync,replace = Path.write_bytes,source._sync,os.replace
        def now(path): return str(path).endswith('checkpoint.pt') and self.learn.epoch>=self.at
        def write_part(path, data):
            if where!='bytes' or not now(path): return write(path, data)
            with open(path, 'wb') as f:
                f.write(data[:chance.randrange(len(data))]); f.flush(); os.fsync(f.fileno())
                die()
        def sync_not(path):
            if where=='sync' and now(path): die()
            sync(path)
        def replace_not(a, b):
            if where=='replace' and now(b): die()
            replace(a, b)
            if where=='after' and now(b): die()
        Path.write_bytes,source._sync,os.replace = write_part,sync_not,replace_not

train(Recipe.from_json(recipe), data, int(seed), folder, 'cpu', Kill()) if recipe else resume_run(folder, data, 'cpu', Kill())
"""

def killed(kind, seed, duration, data, folder, recipe=''):
    "Did the run, new if there is a `recipe`, die at a moment of `kind`?"
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', child, kind, *map(str, (seed,duration,data,folder,recipe))], capture_output=True, text=True)
    if r.returncode not in (0,-9): sys.exit(f'kill.py: {kind}, {seed}: failed by itself: {r.stderr.strip()[-300:]}')
    return r.returncode==-9

def same(a, b):
    "Are weights, history and accuracies of two runs equal to the last bit?"
    x,y = [load_file(o/'model.safetensors') for o in (a,b)]
    if x.keys()!=y.keys() or not all(torch.equal(v, y[k]) for k,v in x.items()): return False
    a,b = map(load_run, (a,b))
    def rest(d): return {k: v for k,v in d.items() if 'seconds' not in k}
    return rest(a.summary)==rest(b.summary) and a.history.drop(columns='seconds').equals(b.history.drop(columns='seconds'))

def main(table='results/kill.csv', n=24):
    recipe = recipes['digits'].replace(width=4, epochs=6, opt='muon', ema=.9, flip=.5, alternate=True, norm='ghost', dropout=.1, cutout=4, cutout_n=(1,3), tta='mirror')
    env = {k: o for k,o in environment(torch.device('cpu'), 0).items() if k in 'cpu threads python torch fastai commit dirty time'.split()}
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        data = shutil.copytree(digits_path(), tmp/'data') # under another name they are mirrored
        killed('none', 0, 0, data, tmp/'whole', recipe.to_json())
        whole, = (tmp/'whole').iterdir()
        duration = load_run(whole).summary['seconds']
        for i in progress_bar(range(int(n))):
            kind,again,out,seed = ('any','write','any','validation')[i%4],i%3==2,tmp/f'{i}',0
            for shorter in 1,2,4,8: # the run may end before its moment
                if killed(kind, seed, duration/shorter, data, out, recipe.replace(about=f'{i} {shorter}').to_json()): break
            run = max(out.iterdir(), key=lambda o: o.stat().st_mtime)
            kept = torch.load(run/'checkpoint.pt', weights_only=True)['epochs'] if (run/'checkpoint.pt').exists() else 0
            twice = again and killed('any', i, duration/4, data, run)
            if not (twice and json.loads((run/'summary.json').read_text())['status']=='complete'): killed('none', 0, 0, data, run)
            rows.append(dict(moment=kind, epochs_kept=kept, killed_again=twice, same=same(run, whole)))
    df = pd.DataFrame(rows)
    print(df.groupby('moment').agg(runs=('same','size'), same=('same','sum'), killed_again=('killed_again','sum')))
    df.assign(**env).to_csv(table, index=False)
    if not df.same.all(): sys.exit(f'kill.py: not the same: {[*df.index[~df.same]]}')

if __name__=='__main__': main(*sys.argv[1:])
