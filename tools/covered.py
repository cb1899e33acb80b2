"""Lines of the package that neither a page nor a test runs: covered.py. An exported cell counts as the lines of its module.
Writes no file; fails below 90%. Pages run without cells flagged `slow` or `cuda`, tests without those of make stress."""
import ast, os, re, subprocess, sys, tempfile
from pathlib import Path
import cells

root = Path(__file__).resolve().parent.parent
settings = '''[run]
include = {root}/cifar_hrf/*
omit = *_modidx.py
data_file = {d}/data
parallel = true
disable_warnings = no-data-collected
patch = subprocess
concurrency = multiprocessing, thread
'''

most = 'not full_disk' # it limits the size of files, and coverage writes larger ones

def exported(): # {(page, cell): (file, line of its marker)}
    return {m.groups(): (f, i) for f in (root/'cifar_hrf').glob('*.py') for i,line in enumerate(f.read_text('utf-8').splitlines(), 1)
            if (m := re.match(r'# %% \S*?(\w+\.ipynb) #(\w+)$', line))}

def as_module(code, page, cell, places=exported()):
    "Compile a cell under the name of its module, each line with its number there"
    if (page,cell) not in places: return compile(code, f'{page} {cell}', 'exec')
    file,line = places[page,cell]
    directives = len(re.match(r'(#\|.*\n)*', code)[0].splitlines())
    return compile(ast.increment_lineno(ast.parse(code), line-directives), str(file), 'exec')

def main():
    pages = sorted((root/'nbs').glob('[0-9]*.ipynb'))
    with tempfile.TemporaryDirectory() as d:
        rc,program = Path(d)/'rc',[sys.executable, '-m', 'coverage']
        rc.write_text(settings.format(root=root, d=d))
        env = dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
        run = [*program, 'run', f'--rcfile={rc}']
        tests = subprocess.Popen([*run, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k', most, 'tests'], cwd=root, env=env)
        failed = [o.name for o in pages if subprocess.run([*run, __file__, o], cwd=root, env=env).returncode]
        if tests.wait(): failed.append('tests/')
        subprocess.run([*program, 'combine', '-q', f'--rcfile={rc}'], check=True, cwd=root)
        low = subprocess.run([*program, 'report', f'--rcfile={rc}', '-m', '--skip-covered', '--fail-under=90'], cwd=root).returncode
    if failed or low: sys.exit(f'failed: {" ".join(failed)}' if failed else 'below 90%')

if __name__=='__main__':
    if sys.argv[1:]: sys.exit(not cells.run(Path(sys.argv[1]).resolve(), '', as_module))
    main()
