// A private redis-server, logd and logworker in a temporary directory, on free ports.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const build = process.env.LOGPIPE_BUILD || path.join(here, '..', '..', 'build');
const DEADLINE_MS = 20000;

// Polls until condition() is truthy, and returns its value.
export async function until(condition, what) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `waited ${DEADLINE_MS} ms in vain for ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

class Program {
  constructor(name, argv) {
    this.name = name;
    this.output = '';
    const env = Object.fromEntries(Object.entries(process.env).filter(([k]) => !/^LOG(D|WORKER|CLIENT)_/.test(k)));
    this.child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.output += text; });
    }
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => { this.status = String(error); resolve(this.status); });
      this.child.on('close', (code, signal) => { this.status = code ?? signal; resolve(this.status); });
    });
  }

  ready(pattern) {
    return until(() => {
      assert.equal(this.status, undefined, `${this.name} ended: ${this.output}`);
      return this.output.match(pattern);
    }, () => `${pattern} from ${this.name}; it printed: ${this.output}`);
  }

  async stop() {
    if (this.status === undefined) this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), DEADLINE_MS);
    const status = await this.ended;
    clearTimeout(timer);
    return status;
  }
}

const canConnect = (socket) => new Promise((resolve) => {
  const connection = net.connect(socket);
  connection.on('error', () => resolve(false));
  connection.on('connect', () => { connection.destroy(); resolve(true); });
});

export class Pipeline {
  programs = [];

  async start() {
    this.dir = fs.mkdtempSync('/tmp/lp-interop-');
    this.log = path.join(this.dir, 'app.log');
    const socket = path.join(this.dir, 'redis.sock');
    this.run('redis-server', ['redis-server', '--port', '0', '--unixsocket', socket, '--dir', this.dir, '--save', '']);
    await until(() => canConnect(socket), () => 'redis-server');
    const logd = this.run('logd', [path.join(build, 'logd'), '--listen', '127.0.0.1:0', '--redis', `unix://${socket}`, '--no-echo']);
    const worker = this.run('logworker', [path.join(build, 'logworker'), '--redis', `unix://${socket}`, '--level', 'trace',
      '--output', this.log]);
    this.port = Number((await logd.ready(/listening on 127\.0\.0\.1:(\d+)/))[1]);
    await worker.ready(/logworker: consuming/);
    this.url = `http://127.0.0.1:${this.port}`;
    await until(async () => (await fetch(`${this.url}/readyz`)).status === 200, () => 'logd to be ready');
  }

  run(name, argv) {
    const program = new Program(name, argv);
    this.programs.push(program);
    return program;
  }

  // The whole lines of app.log.
  lines() {
    return fs.existsSync(this.log) ? fs.readFileSync(this.log, 'utf8').split('\n').slice(0, -1) : [];
  }

  // The lines of one service, once there are at least `count`.
  async linesOf(service, count) {
    const wanted = () => this.lines().filter((line) => JSON.parse(line).service === service);
    await until(() => wanted().length >= count, () => `${count} lines of ${service}; there are ${wanted().length}`);
    return wanted();
  }

  // Ends all, last started first, and checks that each ended as it must.
  async stop() {
    try {
      for (const program of this.programs.reverse()) {
        assert.equal(await program.stop(), 0, `${program.name}: ${program.output}`);
      }
    } finally {
      this.programs.forEach((program) => program.child.kill('SIGKILL'));
      fs.rmSync(this.dir, { recursive: true, force: true });
    }
  }
}
