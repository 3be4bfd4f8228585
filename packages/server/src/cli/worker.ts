// A worker of `flagcast serve --workers`. A terminal sends these signals to the whole process group; the primary process
// handles them. They are ignored before the other modules are loaded, which takes a moment.
for (const name of ['SIGINT', 'SIGHUP'] as const) process.on(name, () => undefined);
const { runWorker } = await import('./worker-server.js');
runWorker();
