import { freePort } from '../../../packages/demo/dist/embedded/embedded-process.js';
import { connectPacket, publishPacket } from '../load/mqtt.js';
import { channelName } from './target.js';
import { firstOf, openPublisher, startInstalled, temporaryFile } from './installed.js';
import { messageText } from './message.js';

/** @import { Target } from './target.js' */

const programs = ['/usr/sbin/mosquitto', '/usr/local/sbin/mosquitto', '/usr/bin/mosquitto'];

/**
 * mosquitto: clients over WebSocket, events published over MQTT with QoS 0.
 *
 * @type {Target}
 */
export const mosquitto = {
  kind: 'mosquitto',
  name: 'mosquitto (MQTT)',
  start: async ({ run }) => {
    const command = await firstOf(programs);
    if (command === null) return null;
    const [port, publishPort] = [await freePort(), await freePort()];
    const file = await temporaryFile(
      run,
      'mosquitto.conf',
      () => `
user root
persistence false
allow_anonymous true
log_type error
log_dest stderr
max_queued_messages 0
set_tcp_nodelay true
listener ${port} 127.0.0.1
protocol websockets
listener ${publishPort} 127.0.0.1
protocol mqtt
`,
    );
    const { pids, end } = await startInstalled(run, { command, args: ['-c', file], port, workers: 0 });
    const { socket, close } = await openPublisher(run, publishPort);
    socket.write(connectPacket);
    return {
      port,
      dialect: 'mqtt',
      headers: {},
      address: (channel) => ({ path: '/', topic: channelName(channel) }),
      publish: async (channels) => {
        socket.write(
          Buffer.concat(channels.map((channel) => publishPacket(channelName(channel), messageText()))),
        );
        await Promise.resolve();
      },
      cpuPids: pids,
      memoryPid: pids[0] ?? 0,
      end: async () => {
        close();
        await end();
      },
    };
  },
};
