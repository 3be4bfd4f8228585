import { Badge, createTheme, Switch } from '@mantine/core';

export const theme = createTheme({
  primaryColor: 'indigo',
  // The shade of filled elements and links: enough contrast on white and on black.
  primaryShade: { light: 7, dark: 8 },
  defaultRadius: 'md',
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Open Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, monospace',
  // Fonts without a weight of 600 draw it bold, so only headings and few other texts have it.
  fontWeights: { regular: '400', medium: '500', bold: '600' },
  headings: { fontWeight: '600', sizes: { h1: { fontSize: '1.5rem' }, h2: { fontSize: '1.1rem' } } },
  cursorType: 'pointer',
  focusRing: 'auto',
  respectReducedMotion: true,
  autoContrast: true,
  components: {
    Badge: Badge.extend({ defaultProps: { fw: 500 } }),
    Switch: Switch.extend({ defaultProps: { withThumbIndicator: false } }),
  },
});
