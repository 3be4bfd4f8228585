import { freePort } from '../../../packages/demo/dist/embedded/embedded-process.js';
import { channelName } from './target.js';
import { firstOf, openPublisher, startInstalled, temporaryFile } from './installed.js';
import { messageText } from './message.js';

/** @import { Target } from './target.js' */

const programs = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx'];
const modules = [
  '/usr/lib/nginx/modules/ngx_nchan_module.so',
  '/usr/lib64/nginx/modules/ngx_nchan_module.so',
];

/**
 * nginx with nchan: one worker, events published over a persistent HTTP connection.
 *
 * @type {Target}
 */
export const nchan = {
  kind: 'nchan',
  name: 'nchan (nginx)',
  start: async ({ run, maxConnections }) => {
    const command = await firstOf(programs);
    const module = await firstOf(modules);
    if (command === null || module === null) return null;
    const port = await freePort();
    const files = maxConnections + 100;
    const file = await temporaryFile(
      run,
      'nginx.conf',
      (folder) => `
load_module ${module};
daemon off;
worker_processes 1;
worker_rlimit_nofile ${files};
pid ${folder}/nginx.pid;
error_log stderr crit;
events { worker_connections ${files}; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
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
`,
    );
    const { pids, end } = await startInstalled(run, {
      command,
      args: ['-e', 'stderr', '-p', file.slice(0, -'nginx.conf'.length), '-c', file],
      port,
      workers: 1,
    });
    const { socket, close } = await openPublisher(run, port);
    return {
      port,
      dialect: 'text',
      headers: {},
      address: (channel) => ({ path: `/subscribe?channel=${channelName(channel)}`, topic: '' }),
      publish: async (channels) => {
        socket.write(channels.map((channel) => request(port, channelName(channel))).join(''));
        await Promise.resolve();
      },
      cpuPids: pids,
      memoryPid: pids[1] ?? 0,
      end: async () => {
        close();
        await end();
      },
    };
  },
};

/**
 * @param {number} port
 * @param {string} channel
 */
function request(port, channel) {
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
