import { defineConfig } from 'vite';

export default defineConfig({
  server: {
    proxy: {
      // The client of a page then needs only `url: '/'`, as behind the proxy in production. Without `changeOrigin`,
      // the server sees the host of the page and so accepts its origin.
      '/api': { target: 'http://127.0.0.1:8080', ws: true },
    },
  },
});
