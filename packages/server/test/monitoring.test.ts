import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { createFlagcast } from '../src/flagcast.js';
import { testSecret } from './server.js';

const root = new URL('../../../', import.meta.url);
const read = (file: string): string => readFileSync(new URL(file, root), 'utf8');
const rules = read('operations/prometheus-alerts.yaml');
const dashboard = JSON.parse(read('operations/grafana-dashboard.json')) as Dashboard;
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;
if (!hasPromtool) {
  process.stdout.write('monitoring: promtool is not installed, so the queries are not tested\n');
}

interface Source {
  readonly type?: string;
  readonly uid?: string;
}

interface Dashboard {
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string }[] };
  readonly panels: readonly {
    readonly id: number;
    readonly type: string;
    readonly title: string;
    readonly description?: string;
    readonly datasource?: Source;
    readonly targets?: readonly { readonly expr: string; readonly datasource: Source }[];
  }[];
}

const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
const alerts = [...rules.matchAll(/^ +- alert: (\w+)$/gm)].map(([, name = '']) => name);

/** The metrics that a text names, without the suffixes of histograms. */
function metricsIn(text: string): string[] {
  const names = [...text.matchAll(/\bflagcast_\w+/g)].map(([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  );
  return [...new Set(names)].sort();
}

/** The metrics of a real response, and the one that only the primary process has (workers.test.ts). */
async function servedMetrics(): Promise<string[]> {
  const flagcast = createFlagcast({ database: { url: inject('clusterUrl') }, auth: { secret: testSecret } });
  const http = createServer(flagcast.requestListener);
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    await flagcast.close();
    http.close();
  });
  const address = http.address();
  if (address === null || typeof address === 'string') throw new Error('does not listen');
  const text = await (await fetch(`http://127.0.0.1:${address.port}/metrics`)).text();
  const names = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name = '']) => name);
  return [...names, 'flagcast_workers_ended_total'];
}

function promtool(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  return status === 0 ? 'passed' : `${stdout}\n${stderr}`;
}

it('the alerts and the dashboard query only metrics that the server has', async () => {
  const served = await servedMetrics();
  expect(served).toEqual(expect.arrayContaining(metricsIn(rules)));
  expect(served).toEqual(expect.arrayContaining(metricsIn(queries.join('\n'))));
});

it('the dashboard can be imported: each panel queries the selected data source', () => {
  const variables = dashboard.templating.list.map(({ name, type }) => [name, type]);
  expect(variables).toEqual([
    ['datasource', 'datasource'],
    ['job', 'query'],
    ['instance', 'query'],
  ]);
  const chosen = { type: 'prometheus', uid: '${datasource}' };
  for (const { type, title, description, datasource, targets = [] } of dashboard.panels) {
    if (type === 'row') continue;
    expect({ title, datasource, sources: targets.map((target) => target.datasource) }).toEqual({
      title,
      datasource: chosen,
      sources: targets.map(() => chosen),
    });
    expect(description).toMatch(/\.$/);
  }
  const ids = dashboard.panels.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
});

it('each alert has a row in the reference, and a test', () => {
  const reference = read('docs/reference.md');
  const described = [...reference.matchAll(/^\| `(Flagcast\w+)` +\| \S/gm)].map(([, name = '']) => name);
  expect(described).toEqual(alerts);
  const tested = [...read('operations/prometheus-alerts.test.yaml').matchAll(/alertname: (\w+)/g)];
  expect(new Set(tested.map(([, name = '']) => name))).toEqual(new Set(alerts));
});

describe.skipIf(!hasPromtool)('Prometheus', () => {
  it('accepts the alerts, and they fire as their tests expect', () => {
    const file = (name: string): string => fileURLToPath(new URL(`operations/${name}`, root));
    expect(promtool('check', 'rules', file('prometheus-alerts.yaml'))).toBe('passed');
    expect(promtool('test', 'rules', file('prometheus-alerts.test.yaml'))).toBe('passed');
  });

  it('accepts the queries of the dashboard', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-test-'));
    onTestFinished(async () => await rm(folder, { recursive: true }));
    const recorded = queries.map((query, index) => ({
      record: `query:${index}`,
      expr: query.replaceAll('$__rate_interval', '5m').replaceAll(/\$\w+/g, '.*'),
    }));
    const file = path.join(folder, 'rules.yaml');
    // JSON is valid YAML.
    await writeFile(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: recorded }] }));
    expect(promtool('check', 'rules', file)).toBe('passed');
  });

  it.each([
    {
      it: 'a server that has never read the database is not 50 years behind',
      metric: 'flagcast_last_read_timestamp_seconds',
      series: [
        ['flagcast_last_read_timestamp_seconds{instance="new"}', '0x20'],
        ['flagcast_last_read_timestamp_seconds{instance="old"}', '290x20'],
      ],
      value: 10,
    },
    {
      it: 'reads that return one event each show one event per read, not a half',
      metric: 'flagcast_batch_events_sum',
      series: [
        ['flagcast_batch_events_sum{instance="old"}', '0+1x20'],
        ['flagcast_batch_events_count{instance="old"}', '0+1x20'],
      ],
      value: 1,
    },
  ])('on the dashboard $it', async ({ metric, series, value }) => {
    const [query = ''] = queries.filter((each) => each.includes(metric));
    const expr = query.replaceAll('$__rate_interval', '1m').replaceAll(/\$\w+/g, '.*');
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-test-'));
    onTestFinished(async () => await rm(folder, { recursive: true }));
    const file = path.join(folder, 'test.yaml');
    const test = {
      interval: '15s',
      input_series: series.map(([name, values]) => ({ series: name, values })),
      promql_expr_test: [{ expr, eval_time: '5m', exp_samples: [{ labels: '{instance="old"}', value }] }],
    };
    await writeFile(file, JSON.stringify({ tests: [test] }));
    expect(promtool('test', 'rules', file)).toBe('passed');
  });
});
