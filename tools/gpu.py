"""Measure what needs a GPU, the most important first, each step's figures in OUT: gpu.py OUT [MINUTES [SCRIPT]]
A step that was finished before is not done again; one for which no time is left within MINUTES is stopped, and begins anew next time.
SCRIPT: to measure the quickest recipe against. Then: collect.py results/gpu.csv OUT/runs/*/*
The first run of each step pays for warming up, compiling and recording: for `train_seconds` the others count."""
import os, shutil, signal, subprocess, sys, time
from pathlib import Path

if len(sys.argv)<2: sys.exit(__doc__)
out,minutes,script = Path(sys.argv[1]).resolve(),float((sys.argv[2:3] or [60])[0]),[Path(o).resolve() for o in sys.argv[3:4]]
root,end = Path(__file__).resolve().parent.parent,time.time()+60*minutes
env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])}
data = ['--data','cifar10']
def train(recipe, seeds, *changes):
    first,n = seeds
    return ['-m','cifar_hrf.train', *data, '--recipe',recipe, '--seed',first, '--seeds',n, *(['--set',*changes] if changes else [])]

without = dict(smoothing='smoothing=0.', celu='act=relu', whitening='stem=conv', norm='norm=batch bias_lr=1.', alternate='alternate=False', dirac='init=default',
               muon='opt=nesterov lr_max=1. lr_min=0.')
names = ('spec','fast10','record','colab','best','airbench')
steps = dict(
    tests=['tools/cells.py', 'cuda', *sorted((root/'nbs').glob('0[125]_*.ipynb'))],
    bench=['-m','cifar_hrf.bench', *data, '--out',out/'bench', *(['--against',*script] if script else [])],
    **{f'{k}-first': train(k, (0,1)) for k in names},
    **{f'{k}-{o}': train(k, (0,3), f'loop={o}') for k in ('spec','record') for o in ('graph','compile')},
    **{f'{k}-to-8': train(k, (1,7)) for k in names},
    **{f'fast10-without-{k}': train('fast10', (0,8), 'valid=.1', *v.split()) for k,v in dict(nothing='', **without).items()},
    **{'spec-to-25': train('spec', (8,17))})

out.mkdir(parents=True, exist_ok=True)
for name,args in steps.items():
    if (out/f'{name}.done').exists(): continue
    if 'cifar_hrf.train' in args:
        shutil.rmtree(out/'runs'/name, ignore_errors=True) # of a time when it was stopped
        args = [*args, '--out',out/'runs'/name]
    start = time.time()
    with (out/f'{name}.log').open('w') as log:
        p = subprocess.Popen([sys.executable, *map(str, args)], cwd=root, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try: status = p.wait(max(1, end-start))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(p.pid, signal.SIGKILL) # its own processes, too
            sys.exit(f'{name}: stopped')
    print(f'{name}: {"done" if status==0 else f"failed, see {name}.log"} in {time.time()-start:.0f} s', flush=True)
    if status==0: (out/f'{name}.done').touch()
