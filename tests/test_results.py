"Tables of results: intervals that can be, and evidence that is not overwritten."
import pandas as pd, pytest
from cifar_hrf.cli import hrf_results
from cifar_hrf.results import read_runs, run_table
from cifar_hrf.statistics import compare, results_table, summarize

runs = pd.DataFrame(dict(recipe=['high']*3+['low']*2, changed='', seed=[0,1,2,0,1], status='complete', accuracy=[.9944,.9972,.9917,.1,.7],
                         accuracy_tta=[.9944,.9972,.9917,.1,.7], tta='mirror'))

@pytest.mark.parametrize('table,pre', [(summarize(runs),''), (results_table(runs),''), (results_table(runs),'tta_')])
def test_interval_of_an_accuracy_is_within_0_and_1(table, pre):
    assert (table[pre+'low']['low'],table[pre+'high']['low'],table[pre+'high']['high'])==(0,1,1) # without bounds -3.4, 4.2 and 1.001
    assert .987<table[pre+'low']['high']<.988

def test_interval_of_seconds_has_no_bounds(): assert summarize(runs.assign(train_seconds=runs.accuracy), column='train_seconds').high['high']>1

def test_default_folder_is_not_the_evidence(tmp_path, monkeypatch, capsys):
    runs.to_csv(tmp_path/'runs.csv', index=False)
    monkeypatch.chdir(tmp_path)
    hrf_results(['runs.csv'])
    assert '98.76 to 100.00' in capsys.readouterr().out
    assert sorted(o.name for o in tmp_path.iterdir())==['runs.csv','summary']

def test_runs_with_and_without_cudnn_benchmark_are_told_apart(tmp_path):
    both = runs[:2].assign(cudnn_benchmark=[True,None], commit=None) # older tables do not say, and not every run has a commit
    both.to_csv(tmp_path/'runs.csv', index=False)
    read = read_runs(tmp_path/'runs.csv')
    assert len(results_table(read, by=['recipe','cudnn_benchmark','commit']))==2
    assert list(read).index('cudnn_benchmark')<list(read).index('commit')

@pytest.mark.filterwarnings('ignore:Precision loss')
def test_one_recipe_without_spread_is_enough_for_welch():
    one = pd.DataFrame(dict(recipe=['some']*5+['none']*5, seed=[*range(5)]*2, accuracy=[.731,.724,.742,.728,.735]+[.7]*5))
    assert compare(one, 'some', 'none')['p']<.01

def test_unreadable_values_of_a_run_become_empty():
    df = run_table([dict(recipe='spec', seed=k, n_params=o, accuracy=o) for k,o in enumerate(['many',.5,2**70,float('inf'),12])])
    assert df.n_params.to_list()[:4]==[pd.NA]*4 and df.n_params[4]==12 and df.accuracy.isna().to_list()==[True]+[False]*4
