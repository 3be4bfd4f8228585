// A worker of `flagcast serve --workers`; workers.ts starts it. What a terminal sends to the whole group is
// for the first process to act on. Heard before the rest is loaded: that takes a moment, too.
for (const name of ['SIGINT', 'SIGHUP'] as const) process.on(name, () => undefined);
const { runWorker } = await import('./worker-server.js');
runWorker();
