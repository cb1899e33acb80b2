"""Measure what needs a GPU, the most important first, each step's figures in OUT: gpu.py OUT [MINUTES [SCRIPT]]
What was finished before is not done again; a step that has no time left within MINUTES is stopped, and its runs go on next time. SCRIPT: to measure against.
Then: collect.py results/gpu.csv OUT/runs/*"""
import subprocess, sys, time
from pathlib import Path

out,minutes,script = Path(sys.argv[1]).resolve(),float((sys.argv[2:3] or [60])[0]),sys.argv[3:4]
root = Path(__file__).resolve().parent.parent
end = time.time()+60*minutes
data = ['--data','cifar10']
def train(recipe, n, *changes): return ['-m','cifar_hrf.train', *data, '--recipe',recipe, '--seeds',n, '--out',out/'runs', *(['--set',*changes] if changes else [])]
without = dict(smoothing='smoothing=0.', celu='act=relu', whitening='stem=conv', norm='norm=batch bias_lr=1.', ema='ema=0.', flip='alternate=True')
steps = dict(
    tests=['tools/cells.py', 'cuda', *(root/'nbs').glob('0[125]_*.ipynb')],
    bench=['-m','cifar_hrf.bench', *data, '--out',out/'bench', *(['--against',*script] if script else [])],
    **{f'{k}-{n}': train(k, n) for n in (1,8) for k in ('spec','fast10','record','colab','best','airbench')},
    **{f'spec-{o}': train('spec', 3, f'loop={o}') for o in ('compile','graph')},
    **{f'fast10-without-{k}': train('fast10', 8, 'valid=.1', *v.split()) for k,v in dict(nothing='', **without).items()},
    **{'spec-25': train('spec', 25)})

out.mkdir(parents=True, exist_ok=True)
for name,args in steps.items():
    done = out/f'{name}.done'
    if done.exists(): continue
    start = time.time()
    with (out/f'{name}.log').open('a') as log:
        try: status = subprocess.run([sys.executable, *map(str, args)], cwd=root, stdout=log, stderr=subprocess.STDOUT, timeout=max(1, end-start)).returncode
        except subprocess.TimeoutExpired: sys.exit(f'{name}: no time left')
    print(f'{name}: {"done" if status==0 else f"failed, see {name}.log"} in {time.time()-start:.0f} s', flush=True)
    if status==0: done.touch()
