'use client';

export { FlagcastProvider, type FlagcastProviderProps, useChannel } from './provider.js';
export {
  useActivity,
  useApprovals,
  useChannelState,
  useConnectionStatus,
  useFeature,
  useFeatures,
  usePendingChanges,
} from './hooks.js';
