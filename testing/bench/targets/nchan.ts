import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pollUntil } from '../../testkit/poll.ts';
import { freePort, Program, supervise } from '../../testkit/program.ts';
import { channelName, messageText, type Target } from './target.ts';

const programs = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx'];
const modules = [
  '/usr/lib/nginx/modules/ngx_nchan_module.so',
  '/usr/lib64/nginx/modules/ngx_nchan_module.so',
];

const startLimitMs = 60_000;

/** nginx with nchan: one worker, events published over a persistent HTTP connection. */
export const nchan: Target = {
  kind: 'nchan',
  name: 'nchan (nginx)',
  isInstalled: async () => (await firstOf(programs)) !== null && (await firstOf(modules)) !== null,
  start: async ({ run }, { clients }) => {
    const port = await freePort();
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-'));
    run.defer(async () => await rm(folder, { recursive: true, force: true }));
    const file = path.join(folder, 'nginx.conf');
    await writeFile(file, configuration(folder, port, await firstOf(modules), 2 * clients + 100));
    const command = (await firstOf(programs)) ?? 'nginx';
    const program = new Program(command, ['-e', 'stderr', '-p', folder, '-c', file]);
    const server = supervise(run, program, command);
    // nginx listens before it starts its worker.
    const hasWorker = async () => (await server.pids()).length > 1;
    if (!(await pollUntil(startLimitMs, hasWorker, { intervalMs: 20 })))
      throw new Error('nginx did not start');
    // Discards responses.
    const publisher = connect({ port, host: '127.0.0.1', noDelay: true }).resume();
    publisher.on('error', (error) => run.fail(error));
    return {
      port,
      dialect: 'text',
      headers: {},
      path: (channel) => `/subscribe?channel=${channelName(channel)}`,
      publish: (channels) =>
        publisher.write(channels.map((channel) => publishRequest(port, channelName(channel))).join('')),
      pids: await server.pids(),
      end: async () => {
        publisher.end();
        await server.end();
      },
    };
  },
};

async function firstOf(files: readonly string[]): Promise<string | null> {
  return await Promise.any(files.map(async (file) => await access(file).then(() => file))).catch(() => null);
}

const configuration = (folder: string, port: number, module: string | null, files: number) => `
load_module ${module};
daemon off;
worker_processes 1;
worker_rlimit_nofile ${files};
pid ${folder}/nginx.pid;
error_log stderr crit;
events { worker_connections ${files}; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
  client_header_timeout 24h;
  keepalive_requests 1000000;
  keepalive_timeout 1h;
  keepalive_time 24h;
  nchan_max_reserved_memory 256M;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location = /publish {
      nchan_publisher http;
      nchan_channel_id $arg_channel;
      nchan_message_buffer_length 400;
      nchan_message_timeout 60s;
    }
    location = /subscribe {
      nchan_subscriber websocket;
      nchan_channel_id $arg_channel;
      nchan_subscriber_first_message newest;
    }
  }
}
`;

function publishRequest(port: number, channel: string): string {
  const body = messageText();
  return [
    `POST /publish?channel=${channel} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n');
}
