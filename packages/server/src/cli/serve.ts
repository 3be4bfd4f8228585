import path from 'node:path';
import { loadConfig, type ServeConfig, serveSettings } from './config.js';
import { install } from '../install/install.js';
import { logWarnings } from '../install/doctor/examine.js';
import { createLogger, type Logger } from '../operations/log.js';
import { defineCommand } from './command.js';
import { awaitPrepared } from './connect.js';
import { defaultDataDir, requireDataDir } from './data-folder.js';
import { loadConsole, loadDemo, loadRelay, loadTracing } from './packages.js';
import { createLoggedFlagcast, listen, type Server, type ServerSettings } from './server.js';
import { CleanupStack, listenForShutdown } from './shutdown.js';
import { refuseNestedWorkers, startWorkers } from './workers.js';

export const serveCommand = defineCommand({
  name: 'serve',
  usage: '[options]',
  description: `Serves the events of a PostgreSQL database over WebSocket (/api/ws), server-sent events (/api/events) and, with the package @flagcast/console, the console. Without a database it starts an embedded PostgreSQL with demo data, which needs the package @flagcast/demo.`,
  options: { traffic: { help: 'simulate the users of the demo, so that flags change by themselves' } },
  settings: serveSettings,
  notes: `SIGTERM and SIGINT stop the server within 10 s; clients reconnect to another server. A second signal stops it immediately. With workers, SIGHUP replaces them one after another, except on a terminal, where it stops the server.`,
  run: async ({ options, flags, environment }) => await serve(loadConfig(environment, flags), options),
});

/** Serves until a signal; resolves when all parts have stopped. */
async function serve(config: ServeConfig, { traffic }: { traffic: boolean }): Promise<void> {
  const interactive = process.stdout.isTTY;
  const logger = createLogger({ human: interactive });
  const shutdown = listenForShutdown();
  const running = new CleanupStack(logger);
  void shutdown.requested.then((signal) => {
    logger('server_stopping', { signal });
    running.startCountdown();
  });
  try {
    if (config.workers > 1) refuseNestedWorkers();
    // Reported before anything starts; the demo first, because it installs the console, too.
    if (config.databaseUrl === null) await loadDemo();
    if (config.relayUrl !== null) await loadRelay();
    const hasConsole = (await loadConsole(config)) !== null;
    const settings = await openSource(config, logger, running);
    if (shutdown.isRequested()) return;
    const { databaseUrl, workers } = settings;
    const start = workers === 1 ? startAlone : startWorkers;
    const { url, monitoringUrl, begin } = await start(settings, logger, running, shutdown.signal);
    logger('server_listening', {
      url,
      console: hasConsole ? 'served' : '@flagcast/console is not installed',
      ...(monitoringUrl === null ? {} : { monitoringUrl }),
      ...(workers === 1 ? {} : { workers }),
    });
    if (config.databaseUrl !== null) {
      await awaitPrepared(databaseUrl, { ...settings, traffic, signal: shutdown.signal, logger });
      void logWarnings(databaseUrl, { ...settings, userClaim: settings.auth.userClaim ?? null, logger });
    }
    if (shutdown.isRequested()) return;
    begin();
    if (traffic) {
      const simulation = (await loadDemo()).startTraffic({
        databaseUrl,
        onAction: (line) => logger('traffic', { action: line }),
      });
      running.add('traffic', async () => await simulation.stop());
    }
    if (config.databaseUrl === null) {
      const dataDir = config.dataDirChosen ? config.dataDir : null;
      const users = settings.demoUsers.map(({ username }) => username);
      if (interactive) process.stdout.write((await loadDemo()).demoBanner({ url, dataDir, traffic }));
      else logger('demo_ready', { url, users });
    }
    await shutdown.requested;
  } catch (error) {
    if (!shutdown.isRequested()) throw error;
    // A signal can also end a part that is still starting.
    logger('server_start_abandoned', { error });
  } finally {
    await running.stop();
    if (shutdown.isRequested()) logger('server_stopped');
    shutdown.dispose();
  }
}

async function openSource(
  config: ServeConfig,
  logger: Logger,
  running: CleanupStack,
): Promise<ServerSettings> {
  const { databaseUrl, auth } = config;
  if (databaseUrl !== null && auth !== null) return { ...config, databaseUrl, auth, demoUsers: [] };
  const { startDemo, demoUsers } = await loadDemo();
  const dataDir = requireDataDir(config.dataDir);
  const demo = await startDemo({
    dataDir,
    copyDir: defaultDataDir(process.env) ?? path.dirname(dataDir),
    install: async (client) => await install(client, { tables: true }),
    logger,
  });
  running.add('embedded database', async (remainingMs) => await demo.stop(remainingMs));
  return {
    ...config,
    databaseUrl: demo.databaseUrl,
    auth: auth ?? { ...config.tokenChecks, secret: await demo.secret() },
    demoUsers,
  };
}

/** A server in this process. */
async function startAlone(settings: ServerSettings, logger: Logger, running: CleanupStack): Promise<Server> {
  const flagcast = await createLoggedFlagcast(settings, { logger });
  if (settings.traces) running.add('traces', (await loadTracing()).exportTraces(flagcast.lifecycle, logger));
  const { url, monitoringUrl, stop } = await listen(flagcast, { ...settings, logger });
  running.add('server', async () => await stop(0));
  return { url, monitoringUrl, begin: () => void flagcast.ready() };
}
