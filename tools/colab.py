"""Run tutorials and replications as Colab does: colab.py [--python PYTHON] [NB ...]
In a fresh environment with the wheel of dist/, each page in an empty folder, from its install cell on. Only the internet is imitated:
`%pip` finds the wheel installed and adds the extras that it names, and `git clone` clones this checkout."""
import argparse, os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path
from fresh import built, environment, root

# what IPython runs before the page
startup = r'''
import re, subprocess, sys, types
sys.modules['google.colab'] = types.ModuleType('google.colab')
def pip(line):
    if 'git+URL' not in line: raise ValueError(f'installs something else: {line}')
    if extras := re.search(r'cifar_hrf(\[.+?\])', line):
        subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', 'WHEEL'+extras[1]], check=True)
get_ipython().register_magic_function(pip, 'line', 'pip')
'''

def run(nb, bin, d, url):
    "Run `nb` in an empty folder, and return the end of what it printed if it fails"
    profile = d/'ipython'/'profile_default'/'startup'
    profile.mkdir(parents=True, exist_ok=True)
    (profile/'00.py').write_text(startup.replace('URL', url).replace('WHEEL', str(built('*.whl'))))
    folder = Path(tempfile.mkdtemp(dir=d))
    shutil.copy(nb, folder)
    env = dict(os.environ, IPYTHONDIR=str(d/'ipython'), PATH=f'{bin}{os.pathsep}{os.environ["PATH"]}', GIT_CONFIG_COUNT='1',
               GIT_CONFIG_KEY_0=f'url.{root.as_uri()}.insteadOf', GIT_CONFIG_VALUE_0=url)
    p = subprocess.run([bin/'jupyter', 'nbconvert', '--to', 'notebook', '--execute', '--output', 'done.ipynb', nb.name], cwd=folder,
                       env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return p.stdout[-2000:] if p.returncode else ''

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python', default=sys.executable, help='the Python of the new environment')
    parser.add_argument('pages', nargs='*', type=Path, metavar='NB', help='default: all tutorials and replications')
    args = parser.parse_args()
    settings = (root/'settings.ini').read_text(encoding='utf-8')
    user,repo = [re.search(rf'^{o} *= *(\S+)', settings, re.M)[1] for o in ('user','repo')]
    pages = args.pages or sorted([*(root/'nbs'/'tutorials').glob('*.ipynb'), *(root/'nbs'/'replications').glob('*.ipynb')],
                                key=lambda nb: ('cifar_hrf[' in nb.read_text(encoding='utf-8'), nb)) # those that add extras last
    failed = []
    with tempfile.TemporaryDirectory() as d:
        bin = environment(Path(d), args.python, 'nbconvert', 'ipykernel')
        for nb in pages:
            start = time.perf_counter()
            if error := run(nb.resolve(), bin, Path(d), f'https://github.com/{user}/{repo}'):
                failed.append(nb.name)
                print(error)
            print(f'{nb.name}: {"failed" if error else "passed"} in {time.perf_counter()-start:.0f} s', flush=True)
    if failed: sys.exit(f'failed: {" ".join(failed)}')

if __name__=='__main__': main()
