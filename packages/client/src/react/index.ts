/**
 * Hooks for React >= 18. They render a component only when the data that it uses changes.
 *
 * @module @flagcast/client/react
 */
'use client';

export {
  FlagcastProvider,
  type FlagcastProviderProps,
  useChannel,
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
