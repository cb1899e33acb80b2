"Rows of results/runs.csv from run folders: collect.py RUN ... ; a run that is there already is replaced."
import sys
from pathlib import Path
import pandas as pd
from cifar_hrf.train import load_run

kept = Path(__file__).resolve().parent.parent/'results/runs.csv'

summary = 'status accuracy epochs train_seconds seconds n_params'.split()
env = 'evaluated_on n_train n_valid precision device cpu gpu threads commit dirty cifar_hrf python torch fastai fingerprint time'.split()

def row(path):
    r = load_run(path)
    return dict(run=r.path.name, recipe=r.recipe.name, data=r.env['data'], seed=r.env['seed'], **{k: r.summary[k] for k in summary}, **{k: r.env[k] for k in env})

df = pd.DataFrame([row(o) for o in sys.argv[1:]])
if kept.exists(): df = pd.concat([pd.read_csv(kept), df]).drop_duplicates('run', keep='last')
df.round(dict(accuracy=6, train_seconds=2, seconds=2)).to_csv(kept, index=False)
