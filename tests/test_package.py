"What is installed: metadata, versions, commands that explain themselves, and the names of `all`."
import importlib.metadata, re
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
cfg = ConfigParser(delimiters=['='])
cfg.read(root/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
commands = [o.split('=') for o in cfg['console_scripts'].split()]

@pytest.mark.parametrize('name,target', commands)
def test_command_help(name, target, capsys):
    module,function = target.split(':')
    with pytest.raises(SystemExit) as e: getattr(import_module(module), function)(['--help'])
    assert e.value.code==0
    assert f'usage: {name}' in capsys.readouterr().out

def test_metadata_says_what_settings_say():
    d = importlib.metadata.distribution('cifar_hrf')
    assert (d.version,d.metadata['License'],d.metadata['Requires-Python'])==(cfg['version'],'Apache-2.0','>='+cfg['min_python'])
    assert {o.name: o.value for o in d.entry_points if o.group=='console_scripts'}==dict(commands)
    assert any(o.name=='LICENSE' for o in d.files or [])

def test_oldest_versions_are_those_of_the_settings():
    named = dict(re.findall(r'(\S+?)>=([\d.]+)', cfg['requirements']))
    tested = dict(re.findall(r'^(\S+)==(\S+)', (root/'constraints-oldest.txt').read_text(), re.M))
    assert len(named)==len(cfg['requirements'].split())
    def numbers(s): return [int(o) for o in s.split('.')]
    for name,low in named.items(): assert numbers(tested[name])[:len(numbers(low))]==numbers(low), name

def test_all_has_what_a_user_types():
    import fastai.vision.all, cifar_hrf.all
    names = {k for k in vars(cifar_hrf.all) if k[0]!='_'}-set(vars(fastai.vision.all))-{'cifar_hrf'}
    assert len(names)<90
    assert {'cifar_dls','resident','hrf_learner','custom_resnet','one_cycle','train','receptive_field','read_runs','hrf_train'}<=names

def test_each_name_of_all_has_a_docstring():
    import fastai.vision.all, cifar_hrf.all
    def ours(o): return callable(o) and (getattr(o, '__module__', None) or '').startswith('cifar_hrf.')
    named = {k: o for k,o in vars(cifar_hrf.all).items() if k[0]!='_' and k not in vars(fastai.vision.all) and ours(o)}
    assert not [k for k,o in named.items() if not o.__doc__] and len(named)>70
