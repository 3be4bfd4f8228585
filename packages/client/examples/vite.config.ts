import { execFile } from 'node:child_process';
import { defineConfig, type Plugin } from 'vite';

/** Answers `/session/token` as your backend does in production: with a token of a user of the demo, alice. */
const demoToken: Plugin = {
  name: 'demo-token',
  configureServer({ middlewares }) {
    middlewares.use('/session/token', (_request, response) => {
      execFile('npx', ['flagcast', 'token', '--user', 'alice'], (error, token, problem) => {
        response.writeHead(error ? 500 : 200).end(error ? problem : token.trim());
      });
    });
  },
};

export default defineConfig({
  plugins: [demoToken],
  server: {
    proxy: {
      // The client of a page then needs only `url: '/'`, as behind the proxy in production. Without `changeOrigin`,
      // the server sees the host of the page and so accepts its origin.
      '/api': { target: 'http://127.0.0.1:8080', ws: true },
    },
  },
});
