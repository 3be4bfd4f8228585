/**
 * The parts of the console that are not in its first load. Whoever shows one gives its loader to `lazy`;
 * `loadParts` brings all of them.
 */
export const parts = {
  featurePage: async () => await import('../feature/feature-page.js'),
  approvalsPage: async () => await import('../approvals/approvals-page.js'),
  guardsPage: async () => await import('../guards/guards-page.js'),
  activityPage: async () => await import('../activity/activity-page.js'),
  activityChart: async () => await import('../activity/activity-chart.js'),
  createDialog: async () => await import('../feature/create-dialog.js'),
  deleteDialog: async () => await import('../feature/delete-dialog.js'),
  freshnessDrawer: async () => await import('../freshness/freshness-drawer.js'),
  deliveryPlot: async () => await import('../freshness/delivery-plot.js'),
};

/**
 * Loads all parts, one after the other, so that what the page asks for meanwhile does not wait behind them.
 * Rejects with the first that could not be loaded: browsers do not ask for it again before the page is
 * reloaded, so that the others are better not tried while the server is away. `signal` stops it between two.
 */
export async function loadParts(signal: AbortSignal): Promise<void> {
  for (const load of Object.values(parts)) {
    if (signal.aborted) return;
    await load();
  }
}
