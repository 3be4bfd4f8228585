'use client';

export { FlagcastProvider, type FlagcastProviderProps, useChannel } from './provider.js';
export {
  useActivity,
  useApprovals,
  useClientStatus,
  useChannelState,
  useConnectionStatus,
  useFeature,
  useFeatures,
  useFlag,
  usePendingChanges,
} from './hooks.js';
