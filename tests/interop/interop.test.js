// Clients of the npm registry deliver into logd, and Winston's JSON output equals app.log byte for byte.
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';

import axios from 'axios';
import winston from 'winston';

import { Pipeline, until } from './pipeline.js';

const pipeline = new Pipeline();
before(() => pipeline.start());
after(() => pipeline.stop());

const record = (service, message, more = {}) => ({ service, level: 'warn', message, timestamp: new Date().toISOString(), ...more });
const lineOf = ({ level, message, service, timestamp }) => JSON.stringify({ level, message, service, timestamp });

test('axios posts single records', async () => {
  const client = axios.create({ baseURL: pipeline.url });
  const records = Array.from({ length: 20 }, (_, i) => record('axios-one', `record ${i}`));
  for (const r of records) {
    const response = await client.post('/api/log', r);
    assert.equal(response.status, 200);
    assert.deepEqual(response.data, { accepted: 1 });
  }
  assert.deepEqual(await pipeline.linesOf('axios-one', 20), records.map(lineOf));
});

test('axios posts arrays, with and without keep-alive', async () => {
  const records = Array.from({ length: 500 }, (_, i) => record('axios-array', `record ${i}`));
  for (let i = 0; i < 500; i += 100) {
    const headers = i % 200 ? { Connection: 'close' } : {};
    const response = await axios.post(`${pipeline.url}/api/log`, records.slice(i, i + 100), { headers });
    assert.deepEqual(response.data, { accepted: 100 });
  }
  assert.deepEqual(await pipeline.linesOf('axios-array', 500), records.map(lineOf));
});

test('axios posts NDJSON', async () => {
  const records = Array.from({ length: 100 }, (_, i) => record('axios-ndjson', `record ${i}`));
  const body = records.map((r) => `${JSON.stringify(r)}\n`).join('');
  const response = await axios.post(`${pipeline.url}/api/log`, body, { headers: { 'Content-Type': 'application/x-ndjson' } });
  assert.deepEqual(response.data, { accepted: 100 });
  assert.deepEqual(await pipeline.linesOf('axios-ndjson', 100), records.map(lineOf));
});

test('axios posts many at once', async () => {
  const records = Array.from({ length: 200 }, (_, i) => record('axios-many', `record ${i}`));
  const responses = await Promise.all(records.map((r) => axios.post(`${pipeline.url}/api/log`, r)));
  assert.ok(responses.every((r) => r.status === 200));
  assert.deepEqual((await pipeline.linesOf('axios-many', 200)).sort(), records.map(lineOf).sort());
});

test('axios is told what is wrong with a record', async () => {
  const bad = [record('axios-bad', 'good'), record('axios-bad', 'bad', { level: 'loud' })];
  const response = await axios.post(`${pipeline.url}/api/log`, bad, { validateStatus: () => true });
  assert.equal(response.status, 400);
  assert.equal(response.data.index, 1);
  assert.equal(response.data.field, 'level');
  assert.match(response.data.error, /loud/);
});

// A logger with the stock Http transport and, beside it, a stream that gets what Winston itself prints.
function winstonLogger(service, options = {}) {
  const printed = [];
  const capture = new Writable({ write(chunk, _, done) { printed.push(chunk.toString()); done(); } });
  const http = new winston.transports.Http({ host: '127.0.0.1', port: pipeline.port, path: '/api/log', ...options });
  const errors = [];
  let logged = 0;
  http.on('warn', (error) => errors.push(error));
  http.on('error', (error) => errors.push(error));
  http.on('logged', () => { logged += 1; });
  const logger = winston.createLogger({
    levels: options.levels || winston.config.npm.levels,
    level: options.lowest || 'silly',
    defaultMeta: { service },
    format: winston.format.combine(winston.format.timestamp(), winston.format.json()),
    transports: [http, new winston.transports.Stream({ stream: capture, eol: '\n' })],
  });
  const done = (count) => until(() => logged + errors.length >= count, () => `${count} answers; there are ${logged}`);
  return { logger, printed, errors, done, logged: () => logged };
}

test("Winston's Http transport delivers at every level", async () => {
  const { logger, errors, done, logged } = winstonLogger('winston-levels');
  const levels = ['error', 'warn', 'info', 'http', 'verbose', 'debug', 'silly'];
  for (const level of levels) logger.log(level, `at ${level}`);
  await done(levels.length);
  assert.deepEqual(errors, []);
  assert.equal(logged(), levels.length);
  const stored = (await pipeline.linesOf('winston-levels', levels.length)).map((line) => JSON.parse(line));
  const byMessage = Object.fromEntries(stored.map((r) => [r.message, r.level]));
  assert.deepEqual(byMessage, {
    'at error': 'error', 'at warn': 'warn', 'at info': 'info', 'at http': 'debug', 'at verbose': 'debug', 'at debug': 'debug',
    'at silly': 'trace',
  });
});

test("Winston's Http transport delivers the syslog levels", async () => {
  const { levels } = winston.config.syslog;
  const { logger, errors, done } = winstonLogger('winston-syslog', { levels, lowest: 'debug' });
  for (const level of Object.keys(levels)) logger.log(level, level);
  await done(Object.keys(levels).length);
  assert.deepEqual(errors, []);
  const stored = (await pipeline.linesOf('winston-syslog', 8)).map((line) => JSON.parse(line));
  assert.deepEqual(Object.fromEntries(stored.map((r) => [r.message, r.level])), {
    emerg: 'fatal', alert: 'fatal', crit: 'fatal', error: 'error', warning: 'warn', notice: 'info', info: 'info', debug: 'debug',
  });
});

test("Winston's Http transport delivers batches", async () => {
  const { logger, errors, done, printed } = winstonLogger('winston-batch', { batch: true, batchCount: 25 });
  for (let i = 0; i < 100; i += 1) logger.warn(`record ${i}`);
  await done(4);
  assert.deepEqual(errors, []);
  const lines = await pipeline.linesOf('winston-batch', 100);
  assert.deepEqual(lines.map((line) => `${line}\n`).sort(), printed.sort());
});

test('metadata of Winston stays with its record', async () => {
  const { logger, errors, done } = winstonLogger('winston-meta');
  logger.error('with metadata', { user: 'alice', amount: 12.5, tags: ['a', 'b'], nested: { deep: null }, stack: 'Error\n    at x' });
  await done(1);
  assert.deepEqual(errors, []);
  const [line] = await pipeline.linesOf('winston-meta', 1);
  const { user, amount, tags, nested, stack } = JSON.parse(line);
  assert.deepEqual({ user, amount, tags, nested, stack },
    { user: 'alice', amount: 12.5, tags: ['a', 'b'], nested: { deep: null }, stack: 'Error\n    at x' });
});

const range = (from, to) => String.fromCharCode(...Array.from({ length: to - from + 1 }, (_, i) => from + i));
const AWKWARD = {
  'nothing': '',
  'one space': ' ',
  'one quote': '"',
  'quotes': 'he said "no", then ""',
  'single quotes': "it's '' fine",
  'one backslash': '\\',
  'a backslash at the end': 'C:\\dir\\',
  'a run of 999 backslashes': '\\'.repeat(999),
  'backslashes and quotes': '\\"\\\\"\\\\\\"',
  'what looks like escapes': '\\n \\u0041 \\x41 %0a %s %d',
  'NUL': 'a\u0000b',
  'only NUL': '\u0000',
  'all control characters': range(0x00, 0x1f),
  'DEL and C1 controls': range(0x7f, 0x9f),
  'slashes': '</script> // /* */',
  'tabs and line ends': '\ta\tb\r\nc\n\rd\n\n',
  'form feed and backspace': 'a\fb\bc\vd',
  'line separators': 'a\u2028b\u2029c',
  'byte order mark': '\ufeffa\ufeff',
  'noncharacters': '\ufffe\uffff',
  'replacement character': 'a\ufffdb',
  'Latin-1': 'Zürich, Ærø, ¿qué?',
  'scripts': 'Ελληνικά Русский עברית العربية हिन्दी ไทย 中文 日本語 한국어',
  'emoji': '😀👍🏽👩‍👩‍👧‍👦🏳️‍🌈🇩🇰',
  'the last character': '\u{10ffff}',
  'combining characters': 'e\u0301 vs é, Z\u0351\u036b\u0343\u0352',
  'right to left': '\u202eabc\u202c \u200f',
  'zero width': 'a\u200b\u200c\u200d\u2060b',
  'JSON': '{"level":"error","message":"inner","service":"x"}\n',
  '64 KiB': 'x'.repeat(65536),
  '64 KiB of three-byte characters': '€'.repeat(21845),
  '64 KiB of backslashes': '\\'.repeat(65536),
  '64 KiB of control characters': '\u0001'.repeat(65536),
  '64 KiB of quotes': '"'.repeat(65536),
  '5000 letters and a quote': `${'x'.repeat(4999)}"`,
};

test("Winston's own JSON output equals app.log byte for byte", async (t) => {
  for (const [name, message] of Object.entries(AWKWARD)) {
    await t.test(name, async () => {
      const service = `awkward ${name}`;
      const { logger, errors, done, printed } = winstonLogger(service);
      logger.warn(message);
      await done(1);
      assert.deepEqual(errors, []);
      const lines = await pipeline.linesOf(service, 1);
      assert.equal(lines.length, 1);
      assert.equal(printed.length, 1);
      assert.ok(Buffer.from(`${lines[0]}\n`).equals(Buffer.from(printed[0])), `${lines[0]} is not ${printed[0]}`);
    });
  }
});

test('awkward service names equal too', async () => {
  for (const service of ['a', 'x'.repeat(128), 'with "quotes"', 'back\\slash', 'ñandú', '😀', 'a/b:c d', '\u2028']) {
    const { logger, errors, done, printed } = winstonLogger(service);
    logger.error('m');
    await done(1);
    assert.deepEqual(errors, []);
    assert.deepEqual((await pipeline.linesOf(service, 1)).map((line) => `${line}\n`), printed);
  }
});

test('a lone surrogate, which is no character, is refused', async () => {
  const { logger, errors, done } = winstonLogger('winston-surrogate');
  logger.warn('a\ud800b');
  await done(1);
  assert.match(String(errors[0]), /400/);
});
