"""The app in a real browser: upload an image, read the prediction, click a unit, choose another network. Writes screenshots.
browser.py [FOLDER]. Needs selenium, and Chromium with its driver (Debian: apt install chromium chromium-driver)."""
import json, re, shutil, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service
from cifar_hrf.source import digits_path, image_files

port,url = 7871,'http://127.0.0.1:7871/'

def cli(name, *args): return [sys.executable, '-W', 'ignore', '-c', f'from cifar_hrf.cli import {name}; {name}()', *map(str, args)]

def browser():
    options = webdriver.ChromeOptions()
    for o in 'headless=new no-sandbox disable-gpu disable-dev-shm-usage window-size=1400,1300'.split(): options.add_argument(f'--{o}')
    options.set_capability('goog:loggingPrefs', dict(performance='ALL'))
    driver = shutil.which('chromedriver') or sys.exit(__doc__)
    return webdriver.Chrome(options=options, service=Service(driver))

def until(f, seconds=60):
    "Wait until `f()` is true, and return it"
    end = time.time()+seconds
    while time.time()<end:
        try:
            if res := f(): return res
        except Exception as e: last = e
        time.sleep(.3)
    raise TimeoutError(f'{f.__name__}: {locals().get("last", "not in time")}')

def asked_hosts(d): # of all requests of the page
    urls = [json.loads(o['message'])['message'] for o in d.get_log('performance')]
    urls = [o['params']['request']['url'] for o in urls if o['method']=='Network.requestWillBeSent']
    return {o.split('/')[2] for o in urls if re.match('https?:', o)}

refused = [('broken', 100, 'This file is not an image that can be read, or it has over 64 megapixels.'),
           ('large', 33_000_000, 'exceed the maximum allowed size of 30.0 Mb')]

def visit(d, out):
    def shot(name): d.save_screenshot(str(out/f'{name}.png'))
    def text(): return d.find_element(By.TAG_NAME, 'body').text
    def upload(file):
        d.get(url)
        until(lambda: d.find_elements(By.CSS_SELECTOR, 'input[type=file]'))[0].send_keys(str(file))
    with tempfile.TemporaryDirectory() as folder:
        for name,size,message in refused:
            (f := Path(folder)/f'{name}.png').write_bytes(bytes(size))
            upload(f)
            def told(): return message in text()
            until(told); time.sleep(3); shot(name)
            assert text().count(message)==1 and folder not in text()
    upload(image_files(digits_path(), ['test'])[200])
    def predicted(): return re.search(r'What the network says\s+5\s', text())
    until(predicted); time.sleep(5); shot('predict')
    d.find_elements(By.CSS_SELECTOR, 'button[role=tab]')[1].click()
    def explored(): return 'layer2.0' in text() and d.find_elements(By.CSS_SELECTOR, '.image-container img')
    until(explored); time.sleep(5); shot('explore')
    def pictures(): return [o for o in d.find_elements(By.CSS_SELECTOR, 'img') if o.is_displayed() and o.size['width']>100]
    before = [o.get_attribute('src') for o in pictures()]
    ActionChains(d).move_to_element_with_offset(max(pictures(), key=lambda o: o.size['width']), -100, -100).click().perform()
    def moved(): return [o.get_attribute('src') for o in pictures()]!=before
    until(moved); shot('clicked')
    net, = [o for o in d.find_elements(By.TAG_NAME, 'input') if o.get_attribute('value')=='this run']
    net.click(); net.send_keys(Keys.CONTROL+'a'); net.send_keys('resnet18'); time.sleep(1); net.send_keys(Keys.ENTER)
    def resnet(): return 'layer2.1' in text() and 'ReLU' in text()
    until(resnet); time.sleep(5); shot('resnet18')
    assert asked_hosts(d)=={f'127.0.0.1:{port}'}, asked_hosts(d)

def main():
    out = Path(sys.argv[1] if len(sys.argv)>1 else tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(cli('hrf_train', '--data', 'digits', '--epochs', 6, '--out', d), check=True, stdout=subprocess.DEVNULL)
        run, = Path(d).iterdir()
        log = Path(d)/'log'
        app = subprocess.Popen(cli('hrf_app', run, '--port', port), stdout=subprocess.DEVNULL, stderr=log.open('w'))
        try:
            def up(): return urllib.request.urlopen(url, timeout=5).status==200
            until(up, 120)
            second = subprocess.run(cli('hrf_app', run, '--port', port), capture_output=True, text=True)
            assert second.returncode==2 and second.stderr.startswith(f'hrf_app: 127.0.0.1, port {port}: cannot be used'), second.stderr
            chromium = browser()
            try: visit(chromium, out)
            finally: chromium.quit()
        finally: app.terminate(); app.wait(30)
        assert 'Traceback' not in log.read_text(), log.read_text()
    print(f'the app works; screenshots in {out}')

if __name__=='__main__': main()
