import { EventEmitter, once } from 'node:events';
import { Registry } from 'prom-client';
import { describeError } from '../describe.js';
import { createLogger } from '../operations/log.js';
import { loadTracing } from './packages.js';
import { createLoggedFlagcast, listen } from './server.js';
import { CleanupStack } from './shutdown.js';
import type { FromWorker, ToWorker } from './worker-process.js';

type Message<Type extends ToWorker['type']> = Extract<ToWorker, { type: Type }>;

/** Emits each message of the primary process by its type. */
const messages = new EventEmitter();

async function next<Type extends ToWorker['type']>(type: Type): Promise<Message<Type>> {
  const [message] = (await once(messages, type)) as [Message<Type>];
  return message;
}

function send(message: FromWorker, whenSent: () => void = () => undefined): void {
  // Without the channel node:cluster ends this process.
  process.send?.(message, undefined, undefined, whenSent);
}

/** Serves with the settings of the primary process, until `stop` or SIGTERM. */
export function runWorker(): void {
  for (const stream of [process.stdout, process.stderr]) {
    // A closed pipe must not end the worker.
    stream.on('error', () => undefined);
  }
  void serve().catch((error: unknown) => {
    send({ type: 'failed', reason: describeError(error) }, () => process.exit(1));
  });
  process.on('message', (message: ToWorker) => void messages.emit(message.type, message));
  process.on('SIGTERM', () => messages.emit('stop', { type: 'stop', graceMs: 0 } satisfies ToWorker));
  send({ type: 'loaded' });
}

async function serve(): Promise<void> {
  const begin = next('begin');
  const stopped = next('stop');
  const { worker, server, listensAtOnce } = (await next('settings')).settings;
  const logger = createLogger({ human: process.stdout.isTTY, base: { worker } });
  const running = new CleanupStack(logger);
  let stopGraceMs = 0;
  void stopped.then(async ({ graceMs }) => {
    stopGraceMs = graceMs;
    running.startCountdown();
    await running.stop();
    process.exit(0);
  });

  const metricsRegistry = new WorkerRegistry(worker);
  messages.on('collect', () => {
    void metricsRegistry.getMetricsAsJSON().then((metrics) => send({ type: 'collected', metrics }));
  });
  const flagcast = await createLoggedFlagcast(server, { logger, metricsRegistry });
  if (server.traces) {
    running.add('traces', (await loadTracing()).exportTraces(flagcast.lifecycle, logger));
  }
  running.add('reader', async () => await flagcast.close());
  const startListening = async (): Promise<void> => {
    const { stop, ...urls } = await listen(flagcast, { ...server, logger });
    running.add('server', async () => await stop(stopGraceMs));
    send({ type: 'listening', urls });
  };
  if (listensAtOnce) await startListening();
  await begin;
  const started = once(flagcast.lifecycle, 'reader:started');
  void flagcast.ready();
  await started;
  // Other workers listen, so no client has to meet one that has not read the database.
  if (!listensAtOnce) await startListening();
  send({ type: 'ready' });
}

/** The metrics of this worker. As text, for /metrics, it returns those of all workers. */
class WorkerRegistry extends Registry {
  constructor(worker: number) {
    super();
    this.setDefaultLabels({ worker: String(worker) });
  }

  override async metrics(): Promise<string> {
    const answer = next('gathered');
    send({ type: 'gather' });
    return (await answer).text;
  }
}
