// A rewrite replaces the Host header, so the server must allow the page: FLAGCAST_ALLOWED_ORIGINS=http://localhost:3000
export default {
  rewrites: () => [{ source: '/api/:path*', destination: 'http://127.0.0.1:8080/api/:path*' }],
};
