"""Install the wheel of dist/ in a fresh environment and use it there: fresh.py [--python PYTHON] [-c FILE] [--all]
In an empty folder the commands train, predict and print a table. With --all, the tests and the page of each module run too, in the
unpacked sdist, from which the package itself is removed. `make dist` builds wheel and sdist."""
import argparse, os, shutil, subprocess, sys, tarfile, tempfile, time
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def built(pattern): # -> file of dist/
    files = [*(root/'dist').glob(pattern)]
    return files[0] if len(files)==1 else sys.exit(f'dist/{pattern}: needs one such file; run make dist')

def environment(d, python, *packages, constraints=None):
    "Install the wheel and `packages` in a new environment in the folder `d` -> its folder of programs"
    subprocess.run([python, '-m', 'venv', d/'env'], check=True)
    bin = d/'env'/('Scripts' if os.name=='nt' else 'bin')
    limit = ['-c', constraints] if constraints else []
    subprocess.run([bin/'python', '-m', 'pip', 'install', '-q', *limit, built('*.whl'), *packages], check=True)
    return bin

def run(bin, folder, *command): # -> did it pass?
    "Run a program of the environment in `folder`, and show what it printed if it fails"
    env = dict(os.environ, FASTAI_HOME=str(bin.parent/'fastai'), CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1',
               PATH=f'{bin}{os.pathsep}{os.environ["PATH"]}')
    env.pop('PYTHONPATH', None)
    start,command = time.perf_counter(),[str(o) for o in command]
    p = subprocess.run([bin/command[0], *command[1:]], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    passed,seconds = p.returncode==0,time.perf_counter()-start
    print(f'{" ".join(command)[:80]}: {"passed" if passed else "failed"} in {seconds:.0f} s', flush=True)
    if not passed: print(p.stdout.decode(errors='replace'), flush=True)
    return passed

def short(bin, d):
    "What a new user does first"
    d.mkdir()
    yield run(bin, d, 'python', '-c', f'import cifar_hrf; assert not cifar_hrf.__file__.startswith({str(root)!r})')
    yield run(bin, d, 'hrf_train', '--data', 'digits', '--epochs', '1')
    yield run(bin, d, 'hrf_rf', '--model', 'grouped')
    for o in d.glob('runs/*'): yield run(bin, d, 'hrf_predict', o.relative_to(d), o/'misclassified.png')

def full(bin, d):
    "All tests and the pages of all modules, where only the installed package can be imported"
    with tarfile.open(built('*.tar.gz')) as t: t.extractall(d)
    folder = next(d.iterdir())
    shutil.rmtree(folder/'cifar_hrf')
    yield run(bin, folder, 'python', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests')
    yield run(bin, folder, 'python', 'tools/cells.py', *sorted((folder/'nbs').glob('[0-9]*.ipynb')))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python', default=sys.executable, help='the Python of the new environment')
    parser.add_argument('-c', '--constraints', type=Path, help='as in pip install')
    parser.add_argument('--all', action='store_true', help='also run tests and pages')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as d:
        d,start = Path(d),time.perf_counter()
        tests = ['pytest','hypothesis','tensorboard'] if args.all else []
        bin = environment(d, args.python, *tests, constraints=args.constraints)
        print(f'installed in {time.perf_counter()-start:.0f} s', flush=True)
        subprocess.run([bin/'python', '-m', 'pip', 'list', '--format', 'freeze'])
        passed = [*short(bin, d/'empty'), *(full(bin, d/'sdist') if args.all else [])]
    if not all(passed): sys.exit('failed')

if __name__=='__main__': main()
